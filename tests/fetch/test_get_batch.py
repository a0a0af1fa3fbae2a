"""What `get_batch` promises: the documented answer, or a typed error."""

import asyncio

import pytest
from pydantic import SecretStr

from safetykit_analytics import FetchFailed, Unauthorized, aget_batch, get_batch
from tests.fetch.helpers import KEY, Script, Server, batch_id, close, response, status, status_of

ID = batch_id(7)


def test_all_eleven_fields_arrive_with_the_urls_as_secrets():
    document = status_of(ID, download_url="https://x/?sig=CANARY", upload_url=None, policy_id="")

    async def answer(request):
        await request.send(response(document))

    with Server(answer) as server:
        found = get_batch(ID, base_url=server.url, api_key=KEY)
    assert isinstance(found.download_url, SecretStr)
    assert found.model_dump() | {"download_url": found.download_url.get_secret_value()} == document
    assert "CANARY" not in repr(found) + str(found)


def test_the_asynchronous_call_gives_the_same():
    with Server() as server:
        assert asyncio.run(aget_batch(ID, base_url=server.url, api_key=KEY)).batch_id == ID


def test_a_passing_fault_is_retried(no_waiting):
    with Server(Script({ID: [close, status(500)]})) as server:
        assert get_batch(ID, base_url=server.url, api_key=KEY).batch_id == ID
        assert len(server.requests) == 3


@pytest.mark.parametrize(("code", "kind"), [(404, "http_status"), (403, "http_status"), (302, "http_status")])
def test_another_status_is_a_typed_error(code, kind):
    with Server(status(code)) as server, pytest.raises(FetchFailed, match=str(code)) as caught:
        get_batch(ID, base_url=server.url, api_key=KEY)
    assert (caught.value.kind, caught.value.status_code, caught.value.batch_id) == (kind, code, ID)


def test_a_refused_key_is_unauthorized():
    with Server(status(401)) as server, pytest.raises(Unauthorized) as caught:
        get_batch(ID, base_url=server.url, api_key=KEY)
    assert (caught.value.status_code, caught.value.result) == (401, None)


@pytest.mark.parametrize("wrong", ["", ".", "a\nb", 5, None])
def test_an_id_that_cannot_be_asked_for_is_a_typed_error_without_a_request(wrong):
    with Server() as server:
        with pytest.raises(FetchFailed) as caught:
            get_batch(wrong, base_url=server.url, api_key=KEY)
        assert not server.requests
    assert caught.value.kind == "invalid_id"
