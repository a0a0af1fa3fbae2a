"""``poll``: ask for batches, append what they answer. Made to be run by cron every minute.

Overlapping runs do no harm: what two of them append is one set of observations.

Place in the flow: ids → fetch → **poll** → the store. Imports no other command.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from safetykit_analytics.cli.key_file import read_key
from safetykit_analytics.cli.store import Store
from safetykit_analytics.cli.terminal import say
from safetykit_analytics.errors import Unauthorized
from safetykit_analytics.records import records
from safetykit_analytics.wording import place_name, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from safetykit_analytics import FetchResult, SnapshotStore
    from safetykit_analytics.cli.terminal import Loudness

_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_SHOWN_FAILURES = 5


@dataclasses.dataclass(frozen=True)
class Round:
    """What one round of asking came to: counts, and what to go on with."""

    asked: int = 0
    answered: int = 0
    failed: int = 0
    settled_skipped: int = 0
    rows_appended: int = 0
    still_open: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    failures: pd.DataFrame | None = None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: safetykit-analytics poll --ids new-batches.txt --store snapshots",
    )(poll)


def poll(
    ctx: typer.Context,
    batch_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BATCH_ID]...", help="Batches to ask for.  [default: the open ones of the store]"
        ),
    ] = None,
    *,
    ids: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="A file with a batch id per line; - for stdin.")
    ] = None,
    store: Store = "snapshots",
    events: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-", help="Append batch.completed events, a JSON object per line. Alone: no request."
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Ask settled batches once more.")] = False,
    watch: Annotated[
        str | None,
        typer.Option(metavar="30s|5m|1h", help="Ask again at this interval until all are settled."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    clock: Annotated[
        Literal["local", "server"],
        typer.Option(help="Whose time stamps the observations: this machine's, or the Date of each answer."),
    ] = "local",
    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="[default: $SAFETYKIT_BASE_URL, else https://api.safetykit.com]"),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with the key.  [default: $SAFETYKIT_API_KEY]")
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Requests in flight, at most.")] = 100,
    max_rate: Annotated[float | None, typer.Option(help="Requests per second, at most.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds for one id, retries included.")] = 60.0,
) -> None:
    """Ask for the status of batches and append it to the store. Settled batches are not asked again."""
    import safetykit_analytics as ska  # noqa: PLC0415 -- a command that is not run costs nothing

    loudness: Loudness = ctx.obj
    every_s = None if watch is None else _seconds(watch)
    if ids == "-" and events == "-":
        raise typer.BadParameter("--ids and --events cannot both read stdin")
    snapshots = ska.SnapshotStore(store)
    shown_store = place_name(store)
    if events is not None:
        summary = _append_events(snapshots, events)
        _print(summary, _event_line(summary, shown_store), as_json=json_output)
        if not batch_ids and ids is None:
            return
    call = {
        "base_url": base_url,
        "concurrency": concurrency,
        "max_rate": max_rate,
        "timeout_s": timeout_s,
        "clock": "server" if clock == "server" else None,
        "api_key": None if api_key_file is None else read_key(api_key_file, quiet=loudness.quiet),
        "progress": False if loudness.quiet or every_s is not None else None,
    }
    given = list(batch_ids or [])
    read = _ids_reader(ids)
    refused: set[str] = set()
    answered_ever = False
    while True:
        began = time.monotonic()
        explicit = [*given, *read()] if given or ids is not None else None
        wanted, settled = _wanted(snapshots, explicit, again=again)
        done = _ask(snapshots, [one for one in wanted if one not in refused], settled, call)
        refused |= done.refused
        answered_ever |= done.answered > 0
        _report(done, shown_store, loudness=loudness, as_json=json_output)
        if every_s is None or not done.still_open:
            break
        again = False
        time.sleep(max(0.0, began + every_s - time.monotonic()))
    if done.failed or refused:
        raise typer.Exit(3 if answered_ever else 4)


def _wanted(
    snapshots: SnapshotStore, explicit: list[str] | None, *, again: bool
) -> tuple[Sequence[str], int]:
    """Give the ids to ask for, and how many settled ones were left out."""
    if explicit is None and not again:
        return snapshots.open_batch_ids(), 0
    latest = snapshots.latest()
    if explicit is None:
        return latest["batch_id"].tolist(), 0
    unique = list(dict.fromkeys(explicit))
    if again:
        return unique, 0
    settled = set(latest.loc[latest["is_terminal"], "batch_id"])
    wanted = [batch_id for batch_id in unique if batch_id not in settled]
    return wanted, len(unique) - len(wanted)


def _ask(snapshots: SnapshotStore, wanted: Sequence[str], settled: int, call: dict[str, Any]) -> Round:
    """Fetch and append; what arrived before a refusal or Ctrl-C is appended too."""
    import safetykit_analytics as ska  # noqa: PLC0415

    try:
        result = ska.fetch_batches(wanted, **call)
    except Unauthorized as error:
        if error.result is not None:
            _append(snapshots, error.result)
        raise
    except KeyboardInterrupt as stop:
        if (partial := getattr(stop, "partial", None)) is not None:
            _append(snapshots, partial)
        raise
    rows = _append(snapshots, result)
    frame, failures = result.frame, result.failures
    # What the API will say again however often it is asked.
    lasting = (failures["kind"] == "invalid_id") | failures["status_code"].isin([400, 403, 404, 410])
    return Round(
        asked=len(frame) + len(failures),
        answered=len(frame),
        failed=len(failures),
        settled_skipped=settled,
        rows_appended=rows,
        still_open=frozenset(frame.loc[~frame["is_terminal"], "batch_id"])
        | frozenset(failures.loc[~lasting, "batch_id"]),
        refused=frozenset(failures.loc[lasting, "batch_id"]),
        failures=failures,
    )


def _append(snapshots: SnapshotStore, result: FetchResult) -> int:
    if not len(result.frame):
        return 0
    try:
        return snapshots.append(result.frame)
    except KeyboardInterrupt:
        # What arrived is kept, also if Ctrl-C comes just now. Whoever cannot wait for it presses again.
        snapshots.append(result.frame)
        raise


def _append_events(snapshots: SnapshotStore, source: str) -> dict[str, Any]:
    import safetykit_analytics as ska  # noqa: PLC0415

    lines = [line for line in _lines(source) if line.strip()]
    frame = ska.observations_from_events(lines)
    return {
        "events": len(lines),
        "rows_appended": snapshots.append(frame) if len(frame) else 0,
        "skipped": len(lines) - len(frame),
    }


def _event_line(summary: dict[str, Any], store: str) -> str:
    skipped = f"; {summary['skipped']:,} of other types skipped" if summary["skipped"] else ""
    return f"{summary['events']:,} events{skipped}; {summary['rows_appended']:,} rows appended to {store}"


def _report(done: Round, store: str, *, loudness: Loudness, as_json: bool) -> None:
    """Print the one line, or the JSON, of a round; list failures on stderr."""
    assert done.failures is not None
    kinds = Counter(
        kind if code is None else f"{kind} {code}"
        for kind, code in zip(
            done.failures["kind"],
            done.failures["status_code"].astype(object).where(done.failures["status_code"].notna(), None),
            strict=True,
        )
    )
    summary = {
        "asked": done.asked,
        "answered": done.answered,
        "failed": done.failed,
        "open": len(done.still_open),
        "settled_skipped": done.settled_skipped,
        "rows_appended": done.rows_appended,
        "failures": records(done.failures),
    }
    line = f"asked {done.asked:,}, answered {done.answered:,}"
    if done.failed:
        why = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        line += f", failed {done.failed:,} ({why})"
    line += f"; {len(done.still_open):,} still open"
    if done.settled_skipped:
        line += f", {done.settled_skipped:,} settled skipped"
    line += f"; {done.rows_appended:,} rows appended to {store}"
    _print(
        summary,
        line if done.asked or done.settled_skipped else f"nothing to ask for in {store}",
        as_json=as_json,
    )
    if loudness.quiet or as_json:
        return
    shown = len(done.failures) if loudness.verbose else _SHOWN_FAILURES
    for row in done.failures.head(shown).itertuples():
        say(f"failed: {visible(row.batch_id)}: {row.kind}: {visible(row.message)}")
    if done.failed > shown:
        say(f"failed: and {done.failed - shown:,} more (--verbose lists them all)")


def _print(summary: dict[str, Any], line: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(summary, ensure_ascii=False) if as_json else line)
    # Someone may be watching through a pipe.
    sys.stdout.flush()


def _ids_reader(source: str | None) -> Any:
    """Give a function that lists the ids of a file: as it is then, for it may grow. Stdin is read once."""
    if source is None:
        return list
    if source == "-":
        once = _ids_in(_lines("-"))
        return lambda: once
    return lambda: _ids_in(_lines(source))


def _ids_in(lines: list[str]) -> list[str]:
    """Take ids from lines; blank lines and those that begin with # are none."""
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("#")]


def _lines(source: str) -> list[str]:
    content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    try:
        # Not splitlines: JSON may hold characters that it takes for ends of lines.
        return re.split(r"\r\n?|\n", content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        name = "standard input" if source == "-" else source
        raise typer.BadParameter(f"{name} is not text: byte {error.start} is not UTF-8") from None


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if found is None or float(found[1]) == 0:
        raise typer.BadParameter(f"--watch {text!r}: expected an interval such as 30s, 5m or 1h")
    return float(found[1]) * _UNITS_S[found[2]]
