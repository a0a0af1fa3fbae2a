"""What comes back is judged: each sort of trouble is one failure of one kind, and never a wrong row."""

import gzip
import json
import zlib

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from safetykit_analytics import fetch_batches
from safetykit_analytics.fetch.responses import MOST_BYTES
from tests.effort import examples
from tests.fetch.helpers import KEY, Server, always, batch_id, response, status, status_of

ID = batch_id(1)
GOOD = json.dumps(status_of(ID)).encode()
HEAD = b"HTTP/1.1 200 OK\r\n"


def outcome(answer, **settings):
    """Fetch one id; give its failure, or None if it became a row."""
    with Server(answer) as server:
        result = fetch_batches([ID], base_url=server.url, api_key=KEY, **settings)
    assert len(result.frame) + len(result.failures) == 1
    return None if len(result.frame) else result.failures.iloc[0]


def changed(**changes):
    return response(status_of(ID, **changes))


def without(*names):
    return response({name: value for name, value in status_of(ID).items() if name not in names})


def raw(text):
    return response(text.encode() if isinstance(text, str) else text)


VALIDATION = {
    "a count as a string": (changed(error_count="12"), "error_count"),
    "a count with a fraction": (raw(GOOD.replace(b'"error_count": 7', b'"error_count": 1.0')), "error_count"),
    "a count with an exponent": (
        raw(GOOD.replace(b'"error_count": 7', b'"error_count": 7e0')),
        "error_count",
    ),
    "a boolean count": (changed(error_count=True), "a boolean"),
    "a negative count": (changed(error_count=-5), "greater than or equal to 0, found -5"),
    "a count beyond int64": (changed(error_count=2**63), "found 9223372036854775808"),
    "a count of 5,000 digits": (raw(GOOD.replace(b'count": 7', b'count": ' + b"7" * 5000)), "digits"),
    "a null count": (changed(error_count=None), "found null"),
    "NaN": (changed(error_count=float("nan")), "NaN"),
    "Infinity": (changed(error_count=float("inf")), "Infinity"),
    "NaN in a field that is ignored": (changed(extra=float("nan")), "NaN"),
    "a missing count": (without("error_count"), "error_count: field required"),
    "a missing id": (without("batch_id"), "batch_id"),
    "a missing status": (without("batch_status"), "batch_status"),
    "a policy that is a number": (changed(policy_id=5), "policy_id"),
    "a URL that is an object": (changed(download_url={"a": 1}), "download_url"),
    "a key that is there twice": (raw(GOOD[:-1] + b', "error_count": 7}'), "'error_count' is there twice"),
    "an unknown key that is there twice": (raw(GOOD[:-1] + b', "x": 7, "x": 7}'), "a key is there twice"),
    "half a surrogate pair": (raw(GOOD.replace(b"policy-a", b"\\ud800")), "policy_id"),
    "an array": (raw("[]"), "an array"),
    "null": (raw("null"), "null"),
    "a string": (raw('"SUCCESS"'), "a string"),
}

PROTOCOL = {
    "HTML": (
        response(b"<html>Sign in</html>", headers={"Content-Type": "text/html; charset=utf-8"}),
        "text/html",
    ),
    "nothing": (raw(""), "expected JSON"),
    "cut off JSON": (raw(GOOD[:-5]), "expected JSON"),
    "two documents": (raw(GOOD + GOOD), "expected JSON"),
    "UTF-16": (raw(GOOD.decode().encode("utf-16")), "UTF-8"),
    "Latin-1": (raw(GOOD.replace(b"policy-a", b"\xe9")), "UTF-8"),
    "deep nesting": (raw(b"[" * 100_000), "nesting"),
    "a longer body than allowed, declared": (HEAD + b"Content-Length: 1048577\r\n\r\n", "1,048,576 bytes"),
    "a length of forty digits": (HEAD + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n", ""),
    "a longer body than allowed, chunked": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b" " * 65536 + b"\r\n") * 17,
        "1,048,576 bytes",
    ),
    "brotli": (response(GOOD, headers={"Content-Encoding": "br"}), "plain or gzip"),
    "gzip in gzip": (
        response(gzip.compress(gzip.compress(GOOD)), headers={"Content-Encoding": "gzip, gzip"}),
        "plain or gzip",
    ),
    "gzip in gzip, declared once": (
        response(gzip.compress(gzip.compress(GOOD)), headers={"Content-Encoding": "gzip"}),
        "UTF-8",
    ),
    "no gzip though declared": (response(GOOD, headers={"Content-Encoding": "gzip"}), "gzip"),
    "deflate called gzip": (response(zlib.compress(GOOD), headers={"Content-Encoding": "gzip"}), "gzip"),
    "cut off gzip": (
        response(gzip.compress(GOOD)[:-9], headers={"Content-Encoding": "gzip"}),
        "one whole gzip",
    ),
    "two gzip streams": (
        response(gzip.compress(GOOD) + gzip.compress(b"x"), headers={"Content-Encoding": "gzip"}),
        "one whole gzip",
    ),
    "a gzip bomb": (
        response(gzip.compress(b"\0" * 10_000_000), headers={"Content-Encoding": "gzip"}),
        "1,048,576 bytes",
    ),
    "no HTTP": (b"HELLO\r\n\r\n", "not|rules"),
    "two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "rules"),
    "a length and chunks": (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", "rules"),
    "a broken chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n", "rules"),
}


@pytest.mark.parametrize(("content", "words"), VALIDATION.values(), ids=VALIDATION)
def test_json_of_the_wrong_shape_is_a_validation_failure(content, words):
    failure = outcome(always(content))
    assert (failure["kind"], failure["status_code"], failure["attempts"]) == ("validation", 200, 1)
    assert words in failure["message"]


@pytest.mark.parametrize(("content", "words"), PROTOCOL.values(), ids=PROTOCOL)
def test_an_answer_that_breaks_the_rules_is_a_protocol_failure(content, words):
    async def answer(request):
        await request.send(content)
        request.close()

    failure = outcome(answer)
    assert (failure["kind"], failure["attempts"]) == ("protocol", 1)
    assert failure["message"]


@pytest.mark.parametrize("code", [201, 204, 206, 301, 302, 304, 307, 400, 403, 404, 410, 422])
def test_any_other_status_is_an_http_failure_and_no_redirect_is_followed(code):
    elsewhere = "http://127.0.0.1:9/?sig=CANARY"
    answer = status(code, location=elsewhere)
    if code in (204, 304):  # these have no body
        answer = always(response(b"", code, {"Location": elsewhere}))
    failure = outcome(answer)
    assert (failure["kind"], failure["status_code"], failure["attempts"]) == ("http_status", code, 1)
    assert "CANARY" not in failure["message"]


def test_another_batchs_status_is_an_id_mismatch():
    failure = outcome(always(changed(batch_id=batch_id(2))))
    assert failure["kind"] == "id_mismatch"
    assert batch_id(2) in failure["message"]
    assert "https" not in outcome(always(changed(batch_id="https://x/?sig=1")))["message"]


def test_gzip_is_decoded_once():
    assert outcome(always(response(gzip.compress(GOOD), headers={"Content-Encoding": "gzip"}))) is None


def test_a_body_of_exactly_the_largest_size_is_read():
    assert outcome(always(raw(GOOD + b" " * (MOST_BYTES - len(GOOD))))) is None


def test_extra_fields_and_absent_optional_ones_are_fine():
    assert outcome(always(changed(type="batch", more={"deep": [1, 2]}))) is None
    assert outcome(always(without("download_url", "upload_url", "policy_id", "policy_version"))) is None


def test_an_empty_policy_or_url_is_none():
    with Server(always(changed(policy_id="", policy_version=None, download_url=""))) as server:
        row = fetch_batches([ID], base_url=server.url, api_key=KEY).frame.iloc[0]
    assert row[["policy_id", "policy_version"]].isna().all()
    assert not row["has_download"]


def test_the_largest_count_survives():
    with Server(always(changed(success_count=2**63 - 1))) as server:
        frame = fetch_batches([ID], base_url=server.url, api_key=KEY).frame
    assert frame["success_count"].tolist() == [2**63 - 1]


def test_an_unasked_upgrade_is_a_failure_that_leaves_nothing_open():
    async def answer(request):
        await request.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")

    assert outcome(answer)["status_code"] == 101


@pytest.fixture(scope="module")
def mirror():
    """A server that answers about each id with the body that it was told."""
    told = {}

    async def answer(request):
        await request.send(response(told[request.batch_id]))

    with Server(answer) as server:
        yield server, told


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from(sorted(status_of(ID))), json_values)
bodies_of_any_kind = st.lists(
    st.binary(max_size=200) | json_values | documents.map(lambda some: status_of(ID) | some)
)


def is_valid(document, name):
    if not isinstance(document, dict) or not document.keys() >= status_of(ID).keys():
        return False
    counts = [value for key, value in document.items() if key.endswith("_count")]
    optional = [document[key] for key in ("download_url", "upload_url", "policy_id", "policy_version")]
    return (
        all(type(count) is int and 0 <= count < 2**63 for count in counts)
        and all(value is None or isinstance(value, str) for value in optional)
        and isinstance(document["batch_status"], str)
        and document["batch_id"] == name
    )


@pytest.mark.filterwarnings("ignore::safetykit_analytics.UnknownStatusWarning")
@examples(60, HealthCheck.function_scoped_fixture)
@given(bodies=bodies_of_any_kind)
def test_no_body_crashes_a_run_or_becomes_a_wrong_row(mirror, bodies):
    server, told = mirror
    ids = [batch_id(number) for number in range(len(bodies))]
    good = {}
    for name, body in zip(ids, bodies, strict=True):
        if isinstance(body, dict) and body.get("batch_id") == ID:
            body["batch_id"] = name
        told[name] = body if isinstance(body, bytes) else json.dumps(body).encode()
        if is_valid(body, name):
            good[name] = body
    result = fetch_batches(ids, base_url=server.url, api_key=KEY)
    assert result.frame["batch_id"].tolist() == list(good)
    assert result.failures["batch_id"].tolist() == [name for name in ids if name not in good]
    assert result.failures["kind"].isin(["protocol", "validation", "id_mismatch"]).all()
    for row in result.frame.to_dict("records"):
        body = good[row["batch_id"]]
        assert all(row[key] == body[key] for key in body if key.endswith("_count") or key == "batch_status")
