"""How hard a run presses: the retry budget, the adaptive limit, the rate."""

import asyncio
from collections import deque

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safetykit_analytics.fetch.pacing import AdaptiveLimit, MaxRate, RetryBudget
from tests.fetch.helpers import Api, Steps, batch_id, good, in_virtual_time


@given(count=st.integers(0, 100_000), answers=st.integers(0, 1000))
def test_an_outage_sees_at_most_100_retries_or_5_percent_whenever_it_begins(count, answers):
    budget = RetryBudget(count)
    for _ in range(answers):
        budget.answered()
    taken = 0
    while budget.take():
        taken += 1
    assert taken <= max(100, 0.05 * count) < taken + 1


@settings(max_examples=20)
@given(st.integers(0, 100_000))
def test_a_fifth_of_faults_never_uses_the_budget_up(count):
    budget = RetryBudget(count)
    for turn in range(5000):
        if turn % 5 == 0:
            assert budget.take()
        else:
            budget.answered()


def test_a_generator_earns_its_budget_as_ids_come():
    budget = RetryBudget(None)
    for _ in range(10_000):
        budget.id_taken()
    assert budget.allowance == 500


def load(limit, allowed, rounds, waiting):
    """Play a server that refuses what exceeds `allowed`; give answers and refusals per round."""
    served = []
    refused = []
    for _ in range(rounds):
        tickets = deque()
        while len(tickets) < waiting and (ticket := limit.enter()) is not None:
            tickets.append(ticket)
        good = [ticket for place, ticket in enumerate(tickets) if place < allowed]
        bad = [ticket for place, ticket in enumerate(tickets) if place >= allowed]
        for ticket in bad:
            limit.throttled(ticket)
        for ticket in good:
            limit.answered(ticket)
        for _ in tickets:
            limit.leave()
        served.append(len(good))
        refused.append(len(bad))
    return served, refused


@pytest.mark.parametrize(("most", "allowed"), [(64, 8), (100, 1), (100, 50), (500, 33), (8, 8), (5, 100)])
def test_a_fixed_limit_is_found_kept_at_and_rarely_disturbed(most, allowed):
    served, refused = load(AdaptiveLimit(most), allowed, rounds=3000, waiting=most)
    ideal = min(most, allowed)
    assert sum(served[300:]) >= 0.95 * ideal * len(served[300:])
    assert sum(refused[300:]) < 0.01 * sum(served[300:])


def test_a_refusal_halves_the_limit_once_for_each_burst():
    limit = AdaptiveLimit(64)
    tickets = [limit.enter() for _ in range(64)]
    for ticket in tickets[60:]:
        limit.throttled(ticket)
    assert limit.limit == 32


def test_a_limit_that_was_lifted_is_followed():
    limit = AdaptiveLimit(100)
    load(limit, 4, rounds=500, waiting=100)
    served, refused = load(limit, 1000, rounds=600, waiting=100)
    assert served[-1] == 100
    assert sum(refused) == 0


@given(
    st.lists(st.sampled_from(["enter", "leave", "throttled", "answered"]), max_size=200), st.integers(1, 20)
)
def test_the_limit_stays_between_one_and_the_most(steps, most):
    limit = AdaptiveLimit(most)
    inside = deque()
    for step in steps:
        if step == "enter":
            ticket = limit.enter()
            assert (ticket is None) == (len(inside) >= limit.limit)
            if ticket:
                inside.append(ticket)
        elif inside and step == "leave":
            inside.popleft()
            limit.leave()
        elif inside:
            getattr(limit, step)(inside[0])
        assert 1 <= limit.limit <= most
        assert limit.in_flight == len(inside)


def test_a_place_that_is_given_to_a_cancelled_waiter_goes_to_the_next():
    async def scene():
        limit = AdaptiveLimit(1)
        assert limit.enter()
        first, second = (asyncio.create_task(limit.wait()) for _ in range(2))
        await asyncio.sleep(0)
        limit.leave()
        first.cancel()
        assert (await asyncio.gather(first, second, return_exceptions=True))[1].load == 1
        limit.leave()
        assert limit.in_flight == 0

    asyncio.run(scene())


def most_in_any_second(times):
    return max(sum(start <= at < start + 1.0 for at in times[place:]) for place, start in enumerate(times))


@pytest.mark.parametrize(("rate", "count"), [(20, 45), (3.5, 8), (400, 700)])
def test_no_second_sees_more_requests_than_the_rate_and_none_waits_for_long(rate, count):
    times = []

    async def scene():
        pace = MaxRate(rate)

        async def one():
            await pace.wait()
            times.append(asyncio.get_running_loop().time())

        await asyncio.gather(*(one() for _ in range(count)))

    in_virtual_time(scene())
    assert most_in_any_second(times) <= rate
    assert times[-1] - times[0] < 1.25 * count / rate


def test_the_rate_holds_with_retries_included():
    api = Api(Steps({batch_id(number): [httpx.Response(500)] for number in range(25)}))
    result = api.fetch([batch_id(number) for number in range(25)], max_rate=25)
    assert len(result.frame) == 25
    assert len(api.requests) == 50
    assert most_in_any_second([at for at, _ in api.requests]) <= 25


def test_a_server_that_allows_8_in_flight_is_used_to_nine_tenths_with_hardly_a_429():
    """Such a server answers 160 a second; the first ten seconds are for finding that out."""
    busy = 0
    answered, refused = [], []

    async def eight_at_once(name, now):
        nonlocal busy
        if busy >= 8:
            refused.append(now)
            return httpx.Response(429)
        busy += 1
        await asyncio.sleep(0.05)
        busy -= 1
        answered.append(now)
        return good(name)

    api = Api(eight_at_once)
    assert len(api.fetch([batch_id(number) for number in range(2400)], concurrency=64).frame) == 2400
    late = [at for at in answered if at > 10]
    assert len(late) / (max(late) - 10) >= 0.9 * 160
    assert sum(at > 10 for at in refused) < 0.02 * len(late)
