"""An id becomes exactly one segment of a path, or is refused without a request."""

import unicodedata
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from safetykit_analytics import fetch_batches
from tests.effort import examples
from tests.fetch.helpers import KEY, Server, batch_id, status

UNSENDABLE_TEXT = ["", ".", "..", "a\nb", "a\x00", "\x7f", "\x85", "\ud800", "a" * 257]
UNSENDABLE = [*UNSENDABLE_TEXT, None, 5, 1.5, b"batch", ("a",), ["a"], pd.NA]


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


def test_an_id_that_cannot_be_sent_is_invalid_and_nothing_is_sent(server):
    server.requests.clear()
    result = fetch_batches([*UNSENDABLE, "good"], base_url=server.url, api_key=KEY)
    assert [request.batch_id for request in server.requests] == ["good"]
    assert len(result.failures) == len(UNSENDABLE)
    assert set(result.failures["kind"]) == {"invalid_id"}
    assert (result.failures["attempts"] == 0).all()
    assert result.failures["message"].str.contains("found|not an id").all()


def test_the_longest_id_and_ids_from_numpy_and_pandas_are_sent(server):
    ids = ["é" * 256, *np.array(["x", "y"]), *pd.Series(["z"])]
    assert fetch_batches(ids, base_url=server.url, api_key=KEY).frame["batch_id"].tolist() == ids
    series = pd.Series([batch_id(1), batch_id(2)], index=[5, 5])
    assert len(fetch_batches(series, base_url=server.url, api_key=KEY).frame) == 2


any_text = st.text(st.characters(), max_size=300) | st.text("./\\%?#:;@&=+ ~é\u202e", max_size=8)


@examples(100, HealthCheck.function_scoped_fixture)
@given(st.lists(any_text, max_size=12))
@example(["a/b", "%2e%2e", "%2F", "a?b", "a#b", "a%00", "../x", "a b", "%", "+", "..."])
def test_any_text_is_one_segment_or_refused(server, ids):
    server.requests.clear()
    result = fetch_batches(ids, base_url=server.url, api_key=KEY)
    refused = {
        name
        for name in ids
        if name in ("", ".", "..")
        or len(name) > 256
        or {unicodedata.category(letter) for letter in name} & {"Cc", "Cs"}
    }
    sent = [name for name in dict.fromkeys(ids) if name not in refused]
    assert result.frame["batch_id"].tolist() == sent
    assert set(result.failures["kind"]) <= {"invalid_id"}
    assert len(result.failures) == len(refused)
    paths = sorted(request.path for request in server.requests)
    assert sorted(unquote(path.removeprefix("/v1/batches/")) for path in paths) == sorted(sent)
    assert all(path.count("/") == 3 and "?" not in path and "#" not in path for path in paths)


def columns_of_ids():
    import duckdb
    import polars as pl
    import pyarrow as pa

    listed = pa.table({"batch_id": [batch_id(1), batch_id(2)], "market": ["a", "b"]})
    yield listed["batch_id"]
    yield listed["batch_id"].chunk(0)
    yield pl.from_arrow(listed)["batch_id"]
    yield listed.select(["batch_id"])
    yield duckdb.sql("select batch_id from listed")
    yield listed.to_pandas()["batch_id"]


def test_ids_are_taken_from_columns_of_pandas_polars_duckdb_and_pyarrow(server):
    for column in columns_of_ids():
        found = fetch_batches(column, base_url=server.url, api_key=KEY).frame["batch_id"]
        assert found.tolist() == [batch_id(1), batch_id(2)]


def test_a_table_of_several_columns_is_no_list_of_ids(server):
    import polars as pl

    table = pl.DataFrame({"batch_id": ["a"], "b": [1]})
    for found in (table, table.to_pandas()):
        with pytest.raises(TypeError, match=r"found a table of 2 columns; pass one column, such as table\["):
            fetch_batches(found, base_url=server.url, api_key=KEY)


@pytest.mark.parametrize(
    ("odd", "hint"),
    [
        (batch_id(1).upper(), "capital letters"),
        ("01hf89meedvef6pc00njv3ezh0", 'does not begin with "batch_"'),
        (f" {batch_id(1)}", "blanks around it"),
        ("batch_1", "the id has 7 characters; ids have 32"),
    ],
)
def test_an_id_that_looks_wrong_is_asked_as_it_is_and_the_failure_has_a_hint(odd, hint):
    with Server(status(404)) as missing:
        failure = fetch_batches([odd], base_url=missing.url, api_key=KEY).failures.iloc[0]
        assert [request.batch_id for request in missing.requests] == [odd]
    assert hint in failure["message"]
