"""Options that several commands share, as the library takes them."""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

import typer

import safetykit_analytics as ska
from safetykit_analytics.cli.terminal import Loudness
from safetykit_analytics.errors import NotAStore
from safetykit_analytics.formatting import place_name

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from safetykit_analytics import SnapshotStore

Store = Annotated[
    str,
    typer.Option(metavar="PATH", envvar="SAFETYKIT_STORE", help="The snapshots: a folder or an fsspec URL."),
]
AsOf = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Ignore later observations.  [default: the last observation]"),
]
AsOfNow = Annotated[
    str | None, typer.Option("--as-of", metavar="TIME", help="Judge as of this time.  [default: now]")
]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="TIME|7d", help="Begin at a time, or so long before --as-of. Without an offset, in --tz."
    ),
]
End = Annotated[str | None, typer.Option(metavar="TIME", help="End at a time.")]
TimeZone = Annotated[
    str, typer.Option("--tz", metavar="ZONE", help="Time zone of days and weeks, such as Europe/Berlin.")
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
Confidence = Annotated[float, typer.Option(metavar="SHARE", help="Confidence level of the intervals.")]

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(min|h|d|w)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Scope(NamedTuple):
    """The options of every table: which batches, and as of when."""

    store: Store = "snapshots"
    policy_id: PolicyId = None
    batches: Batches = None
    tz: TimeZone = "UTC"
    as_of: AsOf = None

    def keywords(self) -> dict[str, Any]:
        """Return these options as the library takes them."""
        batches = None if self.batches is None else _read_batches(self.batches)
        until = instant(self.as_of, self.tz)
        return {"policy_id": self.policy_id, "batches": batches, "tz": self.tz, "as_of": until}


class Window(NamedTuple):
    """The options of tables over time."""

    start: Start = None
    end: End = None

    def keywords(self, store: SnapshotStore, *, tz: str, as_of: Any) -> dict[str, Any]:
        """Return these options as the library takes them; a length counts back from `as_of`."""
        first = instant(self.start, tz)
        if self.start is not None and (length := _LENGTH.fullmatch(self.start.strip())):
            from safetykit_analytics.calendar import from_us, parse_instant, zone  # noqa: PLC0415 -- NumPy

            if as_of is None:
                last = store.info().last_observed_at
            else:
                last = from_us(parse_instant(as_of, "as_of", zone(tz)))
            first = None if last is None else last - dt.timedelta(**{_UNITS[length[2]]: float(length[1])})
        return {"start": first, "end": instant(self.end, tz)}


def open_store(path: str, loudness: Loudness) -> SnapshotStore:
    """Open a store to read it; raise NotAStore for a missing one: a mistyped path is not an empty store."""
    store = ska.SnapshotStore(path)
    if not store.exists():
        raise NotAStore(
            f"there is no store at {place_name(path)}; name one with --store, or begin one with: "
            "safetykit-analytics poll --ids FILE"
        )
    if not store.info().files:
        loudness.note(f"note: there are no observations in {place_name(path)}")
    return store


def flattened(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command for typer: each parameter that is a named tuple becomes the options in it."""
    parameters, groups = [], {}
    hints = get_type_hints(command, include_extras=True)
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if not hasattr(hint, "_fields"):
            parameters.append(parameter.replace(annotation=hint))
            continue
        groups[parameter.name] = hint
        for name, option in get_type_hints(hint, include_extras=True).items():
            kind, default = inspect.Parameter.KEYWORD_ONLY, hint._field_defaults[name]
            parameters.append(inspect.Parameter(name, kind, default=default, annotation=option))

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field: given.pop(field) for field in group._fields})
        command(**given)

    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what typer reads
    return run


def group_names(by: list[str] | None) -> tuple[str, ...]:
    """Return the columns to group by."""
    return ("policy_id", "policy_version") if not by else () if by == ["none"] else tuple(by)


def instant(text: str | None, tz: str) -> Any:
    """Return a time as the library takes it: one without an offset is in `tz`."""
    if text is None:
        return None
    try:
        at = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        return text  # the library explains the error
    if at.tzinfo is not None or len(text.strip()) <= len("2026-W45-1"):
        return text
    from safetykit_analytics.calendar import zone  # noqa: PLC0415 -- NumPy takes a while

    return at.replace(tzinfo=zone(tz))


def _read_batches(path: Path) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    if path.suffix.lower() == ".parquet":
        return pd.read_parquet(path)
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise typer.BadParameter(f"--batches {path}: not a CSV file: {error}") from error
