"""Wire truth: what ``GET /v1/batches/{batch_id}`` may answer, strictly.

Place in the flow: used by `fetch` alone. Knows pydantic; knows nothing of tables, HTTP or time.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

# Counters are stored as int64: a larger number would be wrapped or refused much later, far from its cause.
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]


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
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    batch_count: Count
    batch_id: str
    batch_status: str
    cancelled_count: Count
    error_count: Count
    pending_count: Count
    success_count: Count
    download_url: SecretStr | None = None
    upload_url: SecretStr | None = None
    policy_id: str | None = None
    policy_version: str | None = None
