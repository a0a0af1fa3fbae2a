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
# What a finding is about, never how large it is.
_IDENTITY = ("kind", "policy_id", "policy_version", "batch_id")

Key = tuple[str | None, ...]
#: Since when each finding that was told has been absent; None while it is there.
Told = dict[Key, dt.datetime | None]


def read_told(path: Path) -> tuple[Told, str, bool]:
    """Read what was told.

    Returns
    -------
    Told
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
        absent = {tuple(one[name] for name in _IDENTITY): one["absent_since_us"] for one in state["told"]}
        told: Told = {key: None if at is None else from_us(at) for key, at in absent.items()}
    except FileNotFoundError:
        return {}, "", True
    except (ValueError, TypeError, KeyError, OverflowError):
        return {}, f"{path} is damaged, so all findings are told; it is replaced", True
    return told, "", True


def keys_of(findings: list[dict[str, Any]]) -> list[Key]:
    """Return the identity of each finding."""
    return [tuple(one[name] for name in _IDENTITY) for one in findings]


def is_known(told: Told, key: Key, now: dt.datetime) -> bool:
    """Return whether a finding was told and has not been absent for a day since."""
    return key in told and not _is_forgotten(told[key], now)


def write_told(path: Path, told: Told, present: list[Key], now: dt.datetime) -> None:
    """Replace the file: what is present is there, and what is long absent is forgotten."""
    from safetykit_analytics.calendar import to_us  # noqa: PLC0415

    kept: Told = {key: now if at is None else at for key, at in told.items() if not _is_forgotten(at, now)}
    kept |= dict.fromkeys(present)
    rows = [
        {**dict(zip(_IDENTITY, key, strict=True)), "absent_since_us": None if at is None else to_us(at)}
        for key, at in kept.items()
    ]
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps({"format": _FORMAT, "told": rows}, ensure_ascii=False, indent=1), encoding="utf-8"
        )


def _is_forgotten(absent_since: dt.datetime | None, now: dt.datetime) -> bool:
    return absent_since is not None and now - absent_since >= _FORGOTTEN_AFTER
