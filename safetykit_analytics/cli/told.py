"""What `check --new-since FILE` has told already, so that an alert comes once per change."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from safetykit_analytics.replacing import replacing

if TYPE_CHECKING:
    from pathlib import Path

_FORMAT = 1
# A finding that has been absent for so long is new when it comes back.
_FORGOTTEN_AFTER = dt.timedelta(hours=24)
#: Of a finding: what it is about, never how large it is.
IDENTITY = ("kind", "policy_id", "policy_version", "batch_id")

Key = tuple[str | None, ...]


def read_told(path: Path) -> tuple[dict[Key, dt.datetime], str, bool]:
    """Read when each finding was last there.

    Returns
    -------
    dict
        Empty if there is no file yet, or none that can be used.
    str
        Why it cannot be used; empty if it can.
    bool
        Whether the file may be replaced: one of a newer release may not.
    """
    from safetykit_analytics.calendar import from_us  # noqa: PLC0415 -- NumPy takes a while

    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        if state["format"] > _FORMAT:
            return {}, f"{path} is of a newer release, so all findings are told; it is left as it is", False
        told = {tuple(one[name] for name in IDENTITY): from_us(one["last_us"]) for one in state["told"]}
    except FileNotFoundError:
        return {}, "", True
    except (ValueError, TypeError, KeyError, OverflowError):
        return {}, f"{path} is damaged, so all findings are told; it is replaced", True
    return told, "", True


def keys_of(findings: list[dict[str, Any]]) -> list[Key]:
    """Return the identity of each finding."""
    return [tuple(one[name] for name in IDENTITY) for one in findings]


def is_known(told: dict[Key, dt.datetime], key: Key, now: dt.datetime) -> bool:
    """Tell whether a finding was there within the last 24 hours."""
    return key in told and now - told[key] < _FORGOTTEN_AFTER


def write_told(path: Path, told: dict[Key, dt.datetime], present: list[Key], now: dt.datetime) -> None:
    """Replace the file: what is present was last there now, and what is long absent is forgotten."""
    from safetykit_analytics.calendar import to_us  # noqa: PLC0415

    kept = {key: at for key, at in told.items() if now - at < _FORGOTTEN_AFTER} | dict.fromkeys(present, now)
    rows = [dict(zip(IDENTITY, key, strict=True)) | {"last_us": to_us(at)} for key, at in kept.items()]
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps({"format": _FORMAT, "told": rows}, ensure_ascii=False, indent=1), encoding="utf-8"
        )
