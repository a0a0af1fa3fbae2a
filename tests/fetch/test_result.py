"""A result is a value: it can be pickled, merged, shown."""

import asyncio
import pickle
from datetime import UTC, datetime

import httpx
import numpy as np
import pandas as pd
import pytest

from safetykit_analytics import MissingApiKey, Unauthorized, fetch_batches
from tests.fetch.helpers import KEY, Script, Server, answer_well, batch_id, status


def test_a_result_survives_a_pickle_without_the_key(monkeypatch):
    with Server(Script({"b": [status(404)]})) as server:
        result = fetch_batches(["a", "b"], base_url=server.url, api_key=KEY)
        again = pickle.loads(pickle.dumps(result))
        pd.testing.assert_frame_equal(again.frame, result.frame)
        pd.testing.assert_frame_equal(again.failures, result.failures)
        monkeypatch.delenv("SAFETYKIT_API_KEY", raising=False)
        with pytest.raises(MissingApiKey):
            again.retry()
        monkeypatch.setenv("SAFETYKIT_API_KEY", KEY)
        assert again.retry().frame["batch_id"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    "own",
    [
        {"transport": httpx.MockTransport(lambda request: httpx.Response(404))},
        {"clock": lambda: datetime(2024, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_pickled_result_does_not_go_on_with_another_transport_or_clock(own, monkeypatch):
    monkeypatch.setenv("SAFETYKIT_API_KEY", KEY)
    with Server(status(404)) as server:
        result = fetch_batches(["a"], base_url=server.url, **own)
    again = pickle.loads(pickle.dumps(result))
    with pytest.raises(ValueError, match=f"{next(iter(own))} stayed behind"):
        again.retry()


def test_a_refused_retry_has_the_merged_result():
    with Server(Script({"b": [status(404), status(401)], "c": [status(404)]})) as server:
        first = fetch_batches(["a", "b", "c"], base_url=server.url, api_key=KEY, concurrency=1)
        with pytest.raises(Unauthorized) as caught:
            first.retry()
    merged = pickle.loads(pickle.dumps(caught.value)).result
    assert merged.frame["batch_id"].tolist() == ["a"]
    assert merged.failures["batch_id"].tolist() == ["b", "c"]
    assert merged.failures["kind"].tolist() == ["not_attempted"] * 2
    assert merged.failures["attempts"].tolist() == [2, 1]


def test_aretry_asks_for_the_failed_alone_and_merges_as_retry_does():
    with Server(Script({"b": [status(404)] * 3})) as server:
        first = fetch_batches(["a", "b", "c", ""], base_url=server.url, api_key=KEY)
        second = asyncio.run(first.aretry())
        assert server.asked == {"a": 1, "b": 2, "c": 1}
        assert second.frame["batch_id"].tolist() == ["a", "c"]
        assert second.failures["kind"].tolist() == ["http_status", "invalid_id"]
        assert second.failures["attempts"].tolist() == [2, 0]
        merged = asyncio.run(asyncio.run(second.aretry()).aretry())
    assert merged.frame["batch_id"].tolist() == ["a", "b", "c"]
    assert merged.failures["kind"].tolist() == ["invalid_id"]


def test_a_refused_aretry_has_the_merged_result():
    with Server(Script({"b": [status(404), status(401)]})) as server:
        first = fetch_batches(["a", "b"], base_url=server.url, api_key=KEY)
        with pytest.raises(Unauthorized) as caught:
            asyncio.run(first.aretry())
    assert caught.value.result.frame["batch_id"].tolist() == ["a"]
    assert caught.value.result.failures["attempts"].tolist() == [2]


def test_retry_of_a_good_result_asks_for_nothing():
    with Server() as server:
        result = fetch_batches([batch_id(1)], base_url=server.url, api_key=KEY)
        assert result.retry().frame.equals(result.frame)
        assert len(server.requests) == 1


def test_a_changed_frame_does_not_change_what_retry_merges():
    with Server(Script({"b": [status(404)]})) as server:
        result = fetch_batches(["a", "b"], base_url=server.url, api_key=KEY)
        result.frame["success_count"] = 0
        assert result.retry().frame["success_count"].tolist() == [1450, 1450]


def test_the_repr_counts_rows_and_failures_by_kind():
    with Server(Script({"b": [status(404)]})) as server:
        result = fetch_batches(["a", "b", ""], base_url=server.url, api_key=KEY)
    assert repr(result) == "FetchResult(1 batch, 2 failures: 1 http_status, 1 invalid_id)"


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_progress_is_shown_when_asked_and_silent_when_piped(progress, shown, capsys):
    with Server(Script({"b": [status(404)]})) as server:
        fetch_batches(["a", "b", "c"], base_url=server.url, api_key=KEY, progress=progress)
    told = capsys.readouterr()
    assert told.out == ""
    assert bool(told.err) is shown
    if shown:
        assert "3/3" in told.err
        assert "failed=1" in told.err
        assert "batch/s" in told.err


def test_progress_is_shown_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Server(answer_well) as server:
        fetch_batches(["a"], base_url=server.url, api_key=KEY)
    assert "1/1" in capsys.readouterr().err


def test_a_process_without_stderr_fetches_all_the_same(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    with Server(answer_well) as server:
        assert len(fetch_batches(["a"], base_url=server.url, api_key=KEY).frame) == 1


def test_numbers_from_numpy_are_numbers():
    settings = {"concurrency": np.int64(2), "max_rate": np.int64(1000), "timeout_s": np.float32(60)}
    with Server(answer_well) as server:
        result = fetch_batches(["a", "b", "c"], base_url=server.url, api_key=KEY, **settings)
    assert len(result.frame) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"concurrency": True},
        {"max_rate": 0},
        {"max_rate": "5"},
        {"timeout_s": -1},
        {"timeout_s": float("nan")},
        {"progress": "yes"},
        {"transport": httpx.HTTPTransport()},
        {"clock": "client"},
    ],
)
def test_an_argument_that_cannot_be_meant_is_an_error(wrong):
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        fetch_batches([], api_key=KEY, **wrong)
