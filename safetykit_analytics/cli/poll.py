"""``poll``: ask for batches, append what they answer. Made to be run by cron every minute."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import stat
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import safetykit_analytics as ska
from safetykit_analytics.cli.ids import read_ids, read_lines
from safetykit_analytics.cli.new_since import read_state, write_state
from safetykit_analytics.cli.options import Store
from safetykit_analytics.cli.terminal import Loudness, say
from safetykit_analytics.errors import NotAStore, SafetyKitAnalyticsError
from safetykit_analytics.formatting import place_name, plural, visible
from safetykit_analytics.json_tables import records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd

    from safetykit_analytics import PollResult, SnapshotStore

_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_SHOWN_FAILURES = 5
# Statuses that most likely come again, and how many rounds in a row make them, or a list without ids, final.
_LASTING = (400, 403, 404, 410)
_ROUNDS_THAT_TELL = 3


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
        str | None,
        typer.Option(metavar="FILE|-", help="A file of batch ids: a line each, CSV or Parquet; - for stdin."),
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column of --ids FILE.  [default: batch_id]")
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
    new_since: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Print the line only when the outcome changes: FILE remembers the last one."
        ),
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
    loudness: Loudness = ctx.obj
    every_s = None if watch is None else _seconds(watch)
    if ids == "-" and events == "-":
        raise typer.BadParameter("--ids and --events cannot both read stdin")
    if column is not None and ids is None:
        raise typer.BadParameter("--column names a column of --ids FILE, and there is none")
    snapshots = ska.SnapshotStore(store)
    shown_store = place_name(store)
    if events is not None:
        summary = _append_events(snapshots, events)
        _print(summary, _event_line(summary, shown_store), as_json=json_output, quiet=loudness.quiet)
        if not batch_ids and ids is None:
            return
    given = None if not batch_ids and ids is None else _given(batch_ids or [], ids, column)
    if given is None and not snapshots.exists():
        raise NotAStore(
            f"there is no store at {shown_store}: name one with --store, or ids to begin one with"
        )
    call: dict[str, Any] = {
        "base_url": base_url,
        "concurrency": concurrency,
        "max_rate": max_rate,
        "timeout_s": timeout_s,
        "clock": "server" if clock == "server" else None,
        "api_key": None if api_key_file is None else _read_key(api_key_file, loudness),
        "progress": False if loudness.quiet or every_s is not None else None,
    }
    ask = functools.partial(
        _ask, snapshots, call, loudness, as_json=json_output, new_since=new_since, store_name=shown_store
    )
    if every_s is not None:
        _watch(ask, given, snapshots, loudness, every_s=every_s, again=again)
        return
    done, is_news = ask(None if given is None else given(), again=again)
    if done.failed:
        if is_news and (loudness.quiet or json_output):
            say(f"failed: {done.failed:,} of {done.asked:,} ids ({_kinds(done.failures)})")
        raise typer.Exit(_exit_code(done))


def _ask(
    store: SnapshotStore,
    call: dict[str, Any],
    loudness: Loudness,
    batch_ids: list[str] | None,
    *,
    as_json: bool,
    new_since: Path | None,
    store_name: str,
    again: bool,
    at: str = "",
) -> tuple[PollResult, bool]:
    """Poll, and print the outcome unless it is the same as last time; return whether it was printed."""
    try:
        done = ska.poll(store, batch_ids, again=again, **call)
    except SafetyKitAnalyticsError as error:
        with _once_per_change(new_since, [[type(error).__name__, None]]) as is_news:
            pass
        if is_news:
            raise
        raise typer.Exit(1) from None
    with _once_per_change(new_since, _outcome(done.failures)) as is_news:
        shown = loudness if is_news else Loudness(quiet=True, verbose=False)
        _report(done, store_name, loudness=shown, as_json=as_json, at=at)
    return done, is_news


@contextlib.contextmanager
def _once_per_change(path: Path | None, outcome: list[list[Any]]) -> Iterator[bool]:
    """Yield whether an outcome differs from the last one; remember it once it was printed."""
    if path is None:
        yield True
        return
    last, trouble, replaceable = read_state(path, itemgetter("outcome"), all_told="the outcome is printed")
    if trouble:
        say(visible(trouble))
    yield outcome != last
    sys.stdout.flush()
    if outcome != last and replaceable:
        write_state(path, {"outcome": outcome})


def _outcome(failures: pd.DataFrame) -> list[list[Any]]:
    """List the kinds and status codes of failures; empty if all went well."""
    return sorted(([kind, code] for kind, code in _kinds_and_codes(failures)), key=str)


def _watch(
    ask: Callable[..., tuple[PollResult, bool]],
    given: Callable[[], list[str]] | None,
    store: SnapshotStore,
    loudness: Loudness,
    *,
    every_s: float,
    again: bool,
) -> None:
    """Ask for the given ids and the open ones of the store, until none is left that answers."""
    ids: list[str] = []
    n_without_ids, has_answers = 0, False
    n_refused: Counter[str] = Counter()
    dropped: set[str] = set()
    while True:
        began = time.monotonic()
        found = _read_again(given, is_first=not ids)
        if found or given is None or n_without_ids >= _ROUNDS_THAT_TELL:
            ids, n_without_ids = found, 0
        else:
            n_without_ids += 1
            loudness.note(
                f"{_now()} note: no ids in the file of --ids; is it being written? Going on with the last"
            )
        wanted = [one for one in dict.fromkeys([*ids, *store.open_batch_ids()]) if one not in dropped]
        done, _ = ask(wanted, again=again, at=_now())
        again = False
        has_answers |= done.answered > 0 or done.settled_skipped > 0
        is_invalid = done.failures["kind"] == "invalid_id"
        refused = done.failures[is_invalid | done.failures["status_code"].isin(_LASTING)]
        n_refused = Counter({one: n_refused[one] + 1 for one in refused["batch_id"]})
        for row in refused.itertuples():
            if row.kind == "invalid_id" or n_refused[row.batch_id] >= _ROUNDS_THAT_TELL:
                dropped.add(row.batch_id)
                loudness.note(f"{_now()} dropped: {visible(row.batch_id)}: {visible(row.message)}")
        if not {*store.open_batch_ids(), *done.failures["batch_id"]} - dropped and not n_without_ids:
            break
        time.sleep(max(0.0, began + every_s - time.monotonic()))
    if dropped:
        say(f"{plural(len(dropped), 'id')} failed and will not be asked again")
        raise typer.Exit(3 if has_answers else 4)


def _read_again(given: Callable[[], list[str]] | None, *, is_first: bool) -> list[str]:
    """Read the ids that were given; a file that was there and is missing is being rewritten."""
    try:
        return [] if given is None else given()
    except FileNotFoundError:
        if is_first:
            raise
        return []


def _given(batch_ids: list[str], ids: str | None, column: str | None) -> Callable[[], list[str]]:
    """Return a function that lists the ids: those of a file as it is then. Stdin is read once."""
    if ids is None:
        return lambda: batch_ids
    if ids == "-":
        once = [*batch_ids, *read_ids("-", column)]
        return lambda: once
    return lambda: [*batch_ids, *read_ids(ids, column)]


def _read_key(path: Path, loudness: Loudness) -> str:
    """Read the key, and warn if others can read it too. No message quotes it."""
    key = path.read_text(encoding="utf-8-sig", errors="replace").strip()
    if not key:
        raise typer.BadParameter(f"{path} is empty; expected the API key")
    others = path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
    if others and os.name == "posix":
        loudness.note(f"warning: others can read the key in {path}; run: chmod 600 {path}")
    return key


def _exit_code(done: PollResult) -> int:
    """Return 4 if nothing was answered, else 3; also 3 if the rest is settled and these would fail again."""
    if done.answered:
        return 3
    lasting = done.failures["kind"].eq("invalid_id") | done.failures["status_code"].isin(_LASTING[1:])
    return 3 if done.settled_skipped and lasting.all() else 4


def _append_events(snapshots: SnapshotStore, source: str) -> dict[str, Any]:
    lines = [line for line in read_lines(source) if line.strip()]
    frame = ska.observations_from_events(lines)
    return {
        "events": len(lines),
        "rows_appended": snapshots.append(frame) if len(frame) else 0,
        "skipped": len(lines) - len(frame),
    }


def _event_line(summary: dict[str, Any], store: str) -> str:
    skipped = f"; {summary['skipped']:,} of other types skipped" if summary["skipped"] else ""
    return f"{summary['events']:,} events{skipped}; {summary['rows_appended']:,} rows appended to {store}"


def _report(done: PollResult, store: str, *, loudness: Loudness, as_json: bool, at: str = "") -> None:
    """Print the one line, or the JSON, of a round; list failures on stderr."""
    summary: dict[str, Any] = {"at": at} if at else {}
    summary |= vars(done) | {"failures": records(done.failures)}
    line = f"asked {done.asked:,}, answered {done.answered:,}"
    if done.failed:
        line += f", failed {done.failed:,} ({_kinds(done.failures)})"
    line += f"; {done.open:,} still open"
    if done.settled_skipped:
        line += f", {done.settled_skipped:,} settled skipped"
    line += f"; {done.rows_appended:,} rows appended to {store}"
    if not (done.asked or done.settled_skipped):
        line = f"nothing to ask for in {store}"
    prefix = f"{at} " if at else ""
    _print(summary, prefix + line, as_json=as_json, quiet=loudness.quiet)
    if loudness.quiet or as_json:
        return
    shown = len(done.failures) if loudness.verbose else _SHOWN_FAILURES
    for row in done.failures.head(shown).itertuples():
        say(f"{prefix}failed: {visible(row.batch_id)}: {row.kind}: {visible(row.message)}")
    if done.failed > shown:
        say(f"{prefix}failed: and {done.failed - shown:,} more (--verbose lists them all)")


def _kinds(failures: pd.DataFrame) -> str:
    counts = _kinds_and_codes(failures).most_common()
    return ", ".join(
        f"{count:,} {kind}" if code is None else f"{count:,} {kind} {code}" for (kind, code), count in counts
    )


def _kinds_and_codes(failures: pd.DataFrame) -> Counter[tuple[str, int | None]]:
    status = failures["status_code"]
    codes = [int(code) if known else None for code, known in zip(status, status.notna(), strict=True)]
    return Counter(zip(failures["kind"], codes, strict=True))


def _print(summary: dict[str, Any], line: str, *, as_json: bool, quiet: bool) -> None:
    if quiet and not as_json:
        return
    typer.echo(json.dumps(summary, ensure_ascii=False) if as_json else line)
    # Someone may be watching through a pipe.
    sys.stdout.flush()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if found is None or float(found[1]) == 0:
        raise typer.BadParameter(f"--watch {text!r}: expected an interval such as 30s, 5m or 1h")
    return float(found[1]) * _UNITS_S[found[2]]
