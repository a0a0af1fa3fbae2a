"""The file of `--new-since`: an alert comes once per change."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, TypeVar

from safetykit_analytics.atomic_files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
_FORMAT = 1
# A finding that has been absent for so long is new when it comes back.
_FORGOTTEN_AFTER = dt.timedelta(hours=24)
# The subject of a finding, never its size.
_IDENTITY = ("kind", "policy_id", "policy_version", "batch_id")

Key = tuple[str | None, ...]
#: Since when each finding that was told has been absent; None while it is there.
Told = dict[Key, dt.datetime | None]


def read_state(path: Path, parse: Callable[[Any], T], *, all_told: str) -> tuple[T | None, str, bool]:
    """Read the state in a file, why it cannot be used (else ""), and whether the file may be replaced.

    The state is None without a usable file. An error of `parse` means damage; a file of a newer release may
    not be replaced. `all_told` names the consequence of an unusable file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > _FORMAT:
            return None, f"{path} is of a newer release, so {all_told}; it is left as it is", False
        return parse(content), "", True
    except FileNotFoundError:
        return None, "", True
    except (ValueError, TypeError, KeyError, OverflowError):
        return None, f"{path} is damaged, so {all_told}; it is replaced", True


def write_state(path: Path, content: dict[str, Any]) -> None:
    """Replace the state in a file."""
    text = json.dumps({"format": _FORMAT} | content, ensure_ascii=False, indent=1)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_told(path: Path, now: dt.datetime) -> tuple[Told, str, bool]:
    """Read the findings that were told and not absent for a day since; as `read_state`, with {} for None."""
    from safetykit_analytics.calendar import from_us  # noqa: PLC0415 -- NumPy takes a while

    def parse(content: Any) -> Told:
        absent = {tuple(one[name] for name in _IDENTITY): one["absent_since_us"] for one in content["told"]}
        told: Told = {key: None if at is None else from_us(at) for key, at in absent.items()}
        return {key: at for key, at in told.items() if at is None or now - at < _FORGOTTEN_AFTER}

    told, trouble, replaceable = read_state(path, parse, all_told="all findings are told")
    return told or {}, trouble, replaceable


def keys_of(findings: list[dict[str, Any]]) -> list[Key]:
    """Return the identity of each finding."""
    return [tuple(one[name] for name in _IDENTITY) for one in findings]


def write_told(path: Path, told: Told, present: list[Key], now: dt.datetime) -> None:
    """Replace the file: add the present findings, and since when the others are absent."""
    from safetykit_analytics.calendar import to_us  # noqa: PLC0415

    kept: Told = {key: at or now for key, at in told.items()} | dict.fromkeys(present)
    rows = [
        {**dict(zip(_IDENTITY, key, strict=True)), "absent_since_us": None if at is None else to_us(at)}
        for key, at in kept.items()
    ]
    write_state(path, {"told": rows})
