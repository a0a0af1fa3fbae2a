"""Answers of ``GET /v1/batches/{batch_id}``, and webhook events: models that validate strictly."""

from __future__ import annotations

import json
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError

# Counters are stored as int64: a larger number would be wrapped or refused much later, far from its cause.
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]

_SHOWN_PROBLEMS = 3


def _whole_unicode(text: str) -> str:
    """Refuse half of a surrogate pair, which JSON can escape and no UTF-8 file can hold."""
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise PydanticCustomError("half_surrogate", "Input should be Unicode text")
    return text


def _whole_unicode_secret(secret: SecretStr) -> SecretStr:
    _whole_unicode(secret.get_secret_value())
    return secret


Text = Annotated[str, AfterValidator(_whole_unicode)]
Url = Annotated[SecretStr, AfterValidator(_whole_unicode_secret)]


class BatchStatus(BaseModel):
    """One batch as the API reports it now: the documented answer, verbatim.

    Strict: ``"12"``, ``1.0``, ``true``, negative and missing counts are refused. Unknown fields are ignored,
    an unknown ``batch_status`` is kept. The two URLs are presigned, so whoever holds one can fetch the data:
    they are `pydantic.SecretStr`, shown as stars; call ``.get_secret_value()`` to use one.

    Attributes
    ----------
    batch_id : str
    batch_status : str
        WAITING_FOR_UPLOAD, PENDING, SUCCESS, ERROR, CANCELLED, or what the API has added since.
    batch_count, success_count, error_count, cancelled_count, pending_count : int
        Decisions, cumulative.
    policy_id, policy_version : str or None
        As it came; the API also says ``""`` for none.
    download_url, upload_url : SecretStr or None
        None also where the field is absent, as for the two above.

    Examples
    --------
    >>> status = BatchStatus.model_validate_json(
    ...     b'{"batch_id": "batch_1", "batch_status": "PENDING", "batch_count": 9, "success_count": 4,'
    ...     b' "error_count": 0, "cancelled_count": 0, "pending_count": 5, "upload_url": "https://x?sig=1"}'
    ... )
    >>> status.pending_count, status.policy_id, status.upload_url
    (5, None, SecretStr('**********'))
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    batch_count: Count
    batch_id: Text
    batch_status: Text
    cancelled_count: Count
    error_count: Count
    pending_count: Count
    success_count: Count
    download_url: Url | None = None
    upload_url: Url | None = None
    policy_id: Text | None = None
    policy_version: Text | None = None


class NotJson(ValueError):  # noqa: N818 -- reads as what happened, like the public errors
    """A body is not JSON at all."""


class WrongShape(ValueError):  # noqa: N818
    """A body is JSON, but not the documented answer."""


def parse_batch_status(body: bytes) -> BatchStatus:
    """Read one answer, strictly; raise NotJson, or WrongShape also for a key that is there twice.

    Neither shows a value of the body, and neither is chained to an exception that would.
    """
    document = _parse_json(body)
    if not isinstance(document, dict):
        raise WrongShape(f"expected a JSON object with the fields of a batch, found {_json_type(document)}")
    return _validated(BatchStatus, document)


class CompletedEvent(BaseModel):
    """A ``batch.completed`` event of a webhook, and when it was received, in ISO 8601 with an offset."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    received_at: str
    data: BatchStatus


def parse_event(line: bytes) -> CompletedEvent | None:
    """Read one event, strictly; None if it is of another type than ``batch.completed``."""
    document = _parse_json(line)
    if not isinstance(document, dict):
        raise WrongShape(f"expected a JSON object with an event, found {_json_type(document)}")
    event_type = document.get("event_type")
    if not isinstance(event_type, str):
        raise WrongShape(f"event_type: expected a string, found {_json_type(event_type)}")
    if event_type != "batch.completed":
        return None
    event = _validated(CompletedEvent, document)
    if not event.data.batch_id:
        raise WrongShape("data.batch_id: expected the id of a batch, found an empty string")
    return event


_Model = TypeVar("_Model", bound=BaseModel)


def _validated(model: type[_Model], document: dict[str, Any]) -> _Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, found['loc']))}: {found['msg'].lower()}"
            + ("" if found["type"] == "missing" else f", found {_found(found['input'])}")
            for found in error.errors(include_url=False, include_context=False)
        ]
    more = len(problems) - _SHOWN_PROBLEMS
    raise WrongShape("; ".join(problems[:_SHOWN_PROBLEMS]) + (f"; and {more} more" if more > 0 else ""))


def _parse_json(body: bytes) -> Any:
    # pydantic's own JSON parser keeps the last of two equal keys in silence, so that one proxy or log in the
    # path may have judged another value than the one that we store. The standard one can be told not to.
    problem: Exception
    try:
        return _DECODER.decode(str(body, "utf-8-sig"))
    except WrongShape as error:
        problem = error
    except UnicodeDecodeError as error:
        problem = NotJson(f"expected JSON in UTF-8, found a byte at {error.start} that is not UTF-8")
    except json.JSONDecodeError as error:
        problem = NotJson(
            f"expected JSON, found something else at character {error.pos} of {len(body)} bytes"
        )
    except RecursionError:
        problem = NotJson("expected a flat JSON object, found nesting too deep to read")
    except ValueError:
        # Python refuses to convert integers of more than 4,300 digits: quadratic time.
        problem = WrongShape("a number has too many digits; counts are at most 2^63 - 1")
    raise problem


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        known = sorted({name for name in names if names.count(name) > 1} & BatchStatus.model_fields.keys())
        raise WrongShape(f"the key {known[0]!r} is there twice" if known else "a key is there twice")
    return fields


def _refuse_constant(constant: str) -> NoReturn:
    raise WrongShape(f"{constant} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_pairs, parse_constant=_refuse_constant)


def _found(value: object) -> str:
    """Describe a wrong value. Numbers may be shown: the secrets of an answer are text."""
    if type(value) is int:
        return str(value) if abs(value) < 2**64 else "a number beyond 64 bits"
    return repr(value) if isinstance(value, float) else _json_type(value)


def _json_type(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
