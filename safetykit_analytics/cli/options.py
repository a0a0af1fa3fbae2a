"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from safetykit_analytics import SnapshotStore

AsOf = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Ignore what was observed later.  [default: the last observation]"),
]
AsOfNow = Annotated[
    str | None, typer.Option("--as-of", metavar="TIME", help="Judge as of then.  [default: now]")
]
Start = Annotated[
    str | None,
    typer.Option(metavar="TIME|7d", help="From then on, or so long before --as-of. No offset: in --tz."),
]
End = Annotated[str | None, typer.Option(metavar="TIME", help="Until then.")]
TimeZone = Annotated[
    str, typer.Option("--tz", metavar="ZONE", help="Whose midnights and weeks, such as Europe/Berlin.")
]
PolicyId = Annotated[
    list[str] | None,
    typer.Option(
        "--policy-id", metavar="POLICY", help='Only this policy; may be repeated; "(none)" for none.'
    ),
]
By = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="Group by policy_id, policy_version or a column of --batches; may be repeated; none for no "
        "groups.  [default: policy_id and policy_version]",
    ),
]
Batches = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="CSV or Parquet: batch_id and columns of your own, such as market."),
]
Confidence = Annotated[float, typer.Option(metavar="SHARE", help="Of the intervals.")]

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(min|h|d|w)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def groups(by: list[str] | None) -> tuple[str, ...]:
    """Return the columns to group by."""
    return ("policy_id", "policy_version") if not by else () if by == ["none"] else tuple(by)


def instant(text: str | None, tz: str) -> Any:
    """Return a time as the library takes it: one without an offset is in `tz`."""
    if text is None:
        return None
    try:
        at = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        return text  # the library says what is wrong with it
    if at.tzinfo is not None or len(text.strip()) <= len("2026-W45-1"):
        return text
    from safetykit_analytics.calendar import zone  # noqa: PLC0415 -- NumPy takes a while

    return at.replace(tzinfo=zone(tz))


def window(
    store: SnapshotStore, *, start: str | None, end: str | None, as_of: str | None, tz: str
) -> dict[str, Any]:
    """Return `start`, `end`, `as_of` and `tz` as the library takes them."""
    until = instant(as_of, tz)
    length = None if start is None else _LENGTH.fullmatch(start.strip())
    first = instant(start, tz)
    if length is not None:
        from safetykit_analytics.calendar import from_us, parse_instant, zone  # noqa: PLC0415

        last = store.info().last_observed_at if until is None else None
        if until is not None:
            last = from_us(parse_instant(until, "as_of", zone(tz)))
        first = None if last is None else last - dt.timedelta(**{_UNITS[length[2]]: float(length[1])})
    return {"start": first, "end": instant(end, tz), "as_of": until, "tz": tz}


def read_batches(path: Path | None) -> pd.DataFrame | None:
    """Read the file of --batches."""
    if path is None:
        return None
    import pandas as pd  # noqa: PLC0415

    if path.suffix.lower() == ".parquet":
        return pd.read_parquet(path)
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise typer.BadParameter(f"--batches {path}: not a CSV file: {error}") from error
