"""What `fetch_batches` promises of a run as a whole."""

import asyncio
import json
from pathlib import Path

import pandas as pd
import pytest

from safetykit_analytics import (
    OBSERVATION_SCHEMA,
    FetchFailures,
    MissingApiKey,
    Unauthorized,
    UnknownStatusWarning,
    afetch_batches,
    fetch_batches,
)
from safetykit_analytics.frame import table_from_frame
from tests.fetch.helpers import (
    KEY,
    Script,
    Server,
    answer_well,
    batch_id,
    response,
    status,
    status_of,
)

EXAMPLE = Path(__file__).parent.parent / "documented_example.json"
FAILURE_DTYPES = {
    "batch_id": "string",
    "kind": "string",
    "status_code": "Int64",
    "message": "string",
    "attempts": "int64",
    "retry_after_s": "Float64",
}


def test_each_id_becomes_one_row_in_input_order():
    ids = [batch_id(number) for number in (5, 1, 9, 3)]
    with Server() as server:
        result = fetch_batches(ids, base_url=server.url, api_key=KEY)
    assert list(result.frame["batch_id"]) == ids
    assert result.frame["success_count"].tolist() == [1450] * 4
    assert len(result.failures) == 0
    assert result.frame["created_at"].notna().all()
    assert table_from_frame(result.frame, exact=True).schema.equals(OBSERVATION_SCHEMA)


def test_the_documented_example_is_read_byte_for_byte():
    body = EXAMPLE.read_bytes()
    name = json.loads(body)["batch_id"]

    async def answer(request):
        await request.send(response(body))

    with Server(answer) as server:
        row = fetch_batches([name], base_url=server.url, api_key=KEY).frame.iloc[0]
    assert row["batch_id"] == name
    assert row["batch_status"] == "SUCCESS"
    assert row["pending_count"] == 540
    assert row["policy_id"] is pd.NA
    assert row["policy_version"] is pd.NA
    assert row["has_download"]
    assert row["is_terminal"]
    assert row["created_at"] == pd.Timestamp("2023-11-15T01:30:50.189Z")


def test_one_unknown_id_among_many_costs_exactly_one_failure():
    ids = [batch_id(number) for number in range(500)]
    with Server(Script({ids[400]: [status(404)]})) as server:
        result = fetch_batches(ids, base_url=server.url, api_key=KEY)
        assert len(server.requests) == 500
    assert len(result.frame) == 499
    assert result.failures["batch_id"].tolist() == [ids[400]]
    assert result.failures["kind"].tolist() == ["http_status"]
    assert result.failures["status_code"].tolist() == [404]
    assert result.failures["attempts"].tolist() == [1]


@pytest.mark.parametrize("ids", [[], [""], [batch_id(1)], ["", batch_id(1), "..", batch_id(2)]])
def test_columns_and_dtypes_do_not_depend_on_the_number_of_rows(ids):
    with Server() as server:
        result = fetch_batches(ids, base_url=server.url, api_key=KEY)
    assert list(result.frame.columns) == OBSERVATION_SCHEMA.names
    assert str(result.frame["observed_at"].dtype) == "datetime64[us, UTC]"
    assert result.frame["batch_id"].dtype == pd.StringDtype("pyarrow")
    assert result.frame["success_count"].dtype == "int64"
    assert {name: str(dtype) for name, dtype in result.failures.dtypes.items()} == FAILURE_DTYPES
    assert result.frame.index.equals(pd.RangeIndex(len(result.frame)))


def test_duplicate_ids_are_asked_for_once_and_keep_their_first_place():
    a, b = batch_id(1), batch_id(2)
    with Server() as server:
        result = fetch_batches([b, a, b, a, b], base_url=server.url, api_key=KEY)
        assert server.asked == {a: 1, b: 1}
    assert result.frame["batch_id"].tolist() == [b, a]


def test_no_key_is_one_error_that_names_the_variable(monkeypatch):
    monkeypatch.delenv("SAFETYKIT_API_KEY", raising=False)
    with pytest.raises(MissingApiKey, match="SAFETYKIT_API_KEY"):
        fetch_batches([])


def test_key_and_address_come_from_the_environment(monkeypatch):
    with Server() as server:
        monkeypatch.setenv("SAFETYKIT_API_KEY", KEY)
        monkeypatch.setenv("SAFETYKIT_BASE_URL", server.url)
        assert len(fetch_batches([batch_id(1)]).frame) == 1
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_refused_key_is_one_error_for_the_run():
    ids = [batch_id(number) for number in range(500)]
    with Server(status(401)) as server:
        with pytest.raises(Unauthorized) as caught:
            fetch_batches(ids, base_url=server.url, api_key=KEY, concurrency=4)
        assert len(server.requests) <= 4
    assert caught.value.status_code == 401
    assert caught.value.result.failures["kind"].unique().tolist() == ["not_attempted"]
    assert caught.value.result.failures["batch_id"].tolist() == ids


@pytest.mark.parametrize("ids", ["batch_1", b"batch_1", 7, None, pd.DataFrame({"batch_id": ["batch_1"]})])
def test_a_single_id_or_a_table_is_a_type_error(ids):
    with pytest.raises(TypeError, match="iterable of ids"):
        fetch_batches(ids, api_key=KEY)


def test_the_synchronous_call_works_inside_a_running_loop():
    async def notebook(url):
        return fetch_batches([batch_id(1)], base_url=url, api_key=KEY)

    with Server() as server:
        assert len(asyncio.run(notebook(server.url)).frame) == 1


def test_the_asynchronous_call_gives_the_same():
    with Server() as server:
        result = asyncio.run(afetch_batches([batch_id(1)], base_url=server.url, api_key=KEY))
    assert result.frame["batch_id"].tolist() == [batch_id(1)]


def test_retry_asks_for_the_failed_ids_only_and_merges_in_place():
    ids = [batch_id(number) for number in range(4)]
    with Server(Script({ids[1]: [status(404)], ids[2]: [status(404), status(404)]})) as server:
        first = fetch_batches([*ids, ".."], base_url=server.url, api_key=KEY)
        second = first.retry()
        assert server.asked == {ids[0]: 1, ids[1]: 2, ids[2]: 2, ids[3]: 1}
        third = second.retry()
    assert second.frame["batch_id"].tolist() == [ids[0], ids[1], ids[3]]
    assert second.failures["batch_id"].tolist() == [ids[2], ".."]
    assert second.failures["attempts"].tolist() == [2, 0]
    assert third.frame["batch_id"].tolist() == ids
    assert third.failures["kind"].tolist() == ["invalid_id"]
    assert len(first.failures) == 3


def test_raise_for_failures_raises_only_if_there_are_some():
    with Server(Script({"b": [status(404)]})) as server:
        result = fetch_batches(["a", "b"], base_url=server.url, api_key=KEY)
        with pytest.raises(FetchFailures, match=r"1 batch, 1 failure: 1 http_status.*'b'.*404") as caught:
            result.raise_for_failures()
        assert caught.value.result is result
        again = result.retry()
    assert again.raise_for_failures() is again


def test_an_unknown_status_is_kept_and_warned_of_once_per_status():
    async def answer(request):
        await request.send(response(status_of(request.batch_id, batch_status="ARCHIVED")))

    with Server(answer) as server, pytest.warns(UnknownStatusWarning) as warned:
        result = fetch_batches(["a", "b", "c"], base_url=server.url, api_key=KEY)
    assert len(warned) == 1
    assert "ARCHIVED" in str(warned[0].message)
    assert warned[0].filename == __file__
    assert result.frame["batch_status"].tolist() == ["ARCHIVED"] * 3
    assert not result.frame["is_terminal"].any()


def test_no_more_than_concurrency_requests_are_in_flight():
    async def answer(request):
        await asyncio.sleep(0.01)
        await answer_well(request)

    with Server(answer) as server:
        fetch_batches(
            [batch_id(number) for number in range(60)], base_url=server.url, api_key=KEY, concurrency=7
        )
        assert server.most_in_flight == 7
