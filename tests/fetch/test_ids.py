"""An id becomes exactly one segment of a path, or is refused without a request."""

import unicodedata
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from safetykit_analytics import fetch_batches
from tests.fetch.helpers import KEY, Server, batch_id

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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
