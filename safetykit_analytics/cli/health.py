"""``status``, ``check``, ``metrics``, ``compact`` and ``verify``: commands for operators."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetykit_analytics.atomic_files import atomic_write
from safetykit_analytics.cli import options
from safetykit_analytics.cli.files import check_folder, is_stdout
from safetykit_analytics.cli.new_since import keys_of, read_told, write_told
from safetykit_analytics.cli.terminal import say
from safetykit_analytics.formatting import hours, listed, place_name, size_text, visible
from safetykit_analytics.json_tables import json_value, records

if TYPE_CHECKING:
    from safetykit_analytics.cli.terminal import Loudness

_DEFAULTS = {"stalled": "6h", "silent": "2h"}
_LENGTHS = ("stalled", "silent", "eta")
_MOST_LINES = 20
_FOUND = 5


def status(
    ctx: typer.Context,
    *,
    store: options.Store = "snapshots",
    tz: options.TimeZone = "UTC",
    as_of: options.AsOfNow = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show the state of the store: the last poll, open batches and those that need a look, its size."""
    from safetykit_analytics import health  # noqa: PLC0415 -- a command that is not run costs nothing
    from safetykit_analytics.calendar import zone  # noqa: PLC0415

    loudness: Loudness = ctx.obj
    source = options.open_store(store, loudness)
    found = health.status(source, **_DEFAULTS, tz=tz, as_of=options.instant(as_of, tz))
    compacted = source.last_compaction_at()
    size = source.info().bytes
    if json_output:
        facts = found | {"last_compaction_at": compacted, "bytes": size}
        typer.echo(json.dumps({name: json_value(value) for name, value in facts.items()}))
        return
    clock = zone(tz)
    last = found["last_observed_at"]
    seen = "never"
    if last is not None:
        seen = f"{last.astimezone(clock):%Y-%m-%d %H:%M %Z}, {hours(found['age_s'] / 3600)} ago"
    lines = {
        "store": visible(place_name(store)),
        "last observation": seen,
        "open batches": f"{found['open']:,}",
        "stalled": f"{found['stalled']:,} ({_DEFAULTS['stalled']} without a change)",
        "unanswered": f"{found['unanswered']:,} ({_DEFAULTS['silent']} behind the others)",
        "last compaction": "never"
        if compacted is None
        else f"{compacted.astimezone(clock):%Y-%m-%d %H:%M %Z}",
        "size": size_text(size),
    }
    for name, value in lines.items():
        typer.echo(f"{name:18}{value}")


def check(
    ctx: typer.Context,
    *,
    store: options.Store = "snapshots",
    max_error_rate: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Highest error rate of a policy without its own limit."),
    ] = None,
    stalled: Annotated[
        str | None,
        typer.Option(metavar="LENGTH", help="How long counts may stand still.  [default: 6h]"),
    ] = None,
    silent: Annotated[
        str | None,
        typer.Option(metavar="LENGTH", help="How long nothing may be observed.  [default: 2h]"),
    ] = None,
    eta: Annotated[
        str | None,
        typer.Option(metavar="LENGTH", help="How long a backlog may take.  [default: no limit]"),
    ] = None,
    limits: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A TOML file of these limits, also by policy.")
    ] = None,
    tz: options.TimeZone = "UTC",
    as_of: options.AsOfNow = None,
    new_since: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Print each finding once: FILE remembers those printed."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """List findings that need a look; exit code 5 if there are any."""
    from safetykit_analytics import health  # noqa: PLC0415 -- a command that is not run costs nothing

    loudness: Loudness = ctx.obj
    given = {"max_error_rate": max_error_rate, "stalled": stalled, "silent": silent, "eta": eta}
    parsed = _limits(limits, given)
    source = options.open_store(store, loudness)
    report, unknown = health.examine(source, parsed, tz=tz, as_of=options.instant(as_of, tz))
    found = records(report.findings)
    told, trouble, replaceable = ({}, "", False) if new_since is None else read_told(new_since, report.as_of)
    keys = keys_of(found)
    new = [at for at, key in enumerate(keys) if key not in told]
    sentences = [report.sentences[at] for at in new]
    if json_output:
        findings = [found[at] | {"sentence": report.sentences[at]} for at in new]
        as_json = {"ok": not new, "as_of": json_value(report.as_of), "findings": findings}
        typer.echo(json.dumps(as_json, ensure_ascii=False))
    else:
        _print_sentences(sentences, everything=loudness.verbose)
        if not new and not loudness.quiet:
            typer.echo(f"nothing new; {len(found):,} found before" if found else str(report))
    # Findings that could not be printed are printed by the next run.
    sys.stdout.flush()
    if new_since is not None and replaceable:
        write_told(new_since, told, keys, report.as_of)
    kinds = Counter(found[at]["kind"] for at in new)
    counted = listed([f"{count:,} {kind}" for kind, count in kinds.items()])
    reasons = [f"found {counted}" if new else "", trouble, "" if unknown is None else f"error: {unknown}"]
    if any(reasons):
        say(visible("; ".join(filter(None, reasons))))
    if new:
        raise typer.Exit(_FOUND)
    if unknown is not None:
        raise typer.Exit(1)


def _print_sentences(sentences: list[str], *, everything: bool) -> None:
    shown = len(sentences) if everything else _MOST_LINES
    for sentence in sentences[:shown]:
        typer.echo(visible(sentence))
    if len(sentences) > shown:
        typer.echo(f"and {len(sentences) - shown:,} more (--verbose or --json lists them all)")


def metrics(
    ctx: typer.Context,
    *,
    store: options.Store = "snapshots",
    tz: options.TimeZone = "UTC",
    as_of: options.AsOfNow = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            callback=check_folder,
            help="Replace FILE, as classic text for node_exporter's textfile collector.",
        ),
    ] = None,
) -> None:
    """Print counters and gauges for Prometheus, as OpenMetrics."""
    from safetykit_analytics import health  # noqa: PLC0415 -- a command that is not run costs nothing

    loudness: Loudness = ctx.obj
    source = options.open_store(store, loudness)
    until = options.instant(as_of, tz)
    if output is None or is_stdout(output):
        typer.echo(health.open_metrics(source, tz=tz, as_of=until), nl=False)
        return
    text = health.text_metrics(source, tz=tz, as_of=until)
    with atomic_write(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
        # The collector runs as another user.
        temporary.chmod(0o644)
    loudness.note(f"wrote {output}")


def compact(
    ctx: typer.Context,
    *,
    store: options.Store = "snapshots",
    thin_before: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Also drop repeated observations from before then; tables as of later stay the same.",
        ),
    ] = None,
) -> None:
    """Move recent observations into one file per day of creation. Safe while others append and read."""
    loudness: Loudness = ctx.obj
    source = options.open_store(store, loudness)
    done = source.compact(thin_before=options.instant(thin_before, "UTC"))
    if not loudness.quiet:
        typer.echo(str(done))


def verify(ctx: typer.Context, store: options.Store = "snapshots") -> None:
    """Read every byte of the store, and list damaged files; exit code 1 if there are any."""
    loudness: Loudness = ctx.obj
    found = options.open_store(store, loudness).verify()
    damaged = [finding for finding in found if finding.is_damage]
    for path, reason in found if not loudness.quiet else damaged:
        typer.echo(f"{visible(path)}: {visible(reason)}")
    if damaged:
        say(f"error: {len(damaged):,} damaged")
        raise typer.Exit(1)
    if not loudness.quiet:
        typer.echo("all is well: nothing is damaged")


def _limits(path: Path | None, given: dict[str, Any]) -> Any:
    """Merge limits: options before the file, the file before the defaults."""
    from safetykit_analytics.health import parse_limits  # noqa: PLC0415

    merged: dict[str, Any] = {"max_error_rate": None, "eta": None, **_DEFAULTS}
    by_policy: dict[str, Any] = {}
    if path is not None:
        merged |= _read_limits(path)
        by_policy = merged.pop("policy", {})
    merged |= {name: value for name, value in given.items() if value is not None}
    limits = parse_limits(**merged)
    by_policy = parse_limits(**(merged | {"max_error_rate": by_policy})).by_policy
    return limits._replace(by_policy=by_policy)


def _read_limits(path: Path) -> dict[str, Any]:
    """Read a TOML file of limits, strictly: a misspelt limit would guard nothing."""
    import tomllib  # noqa: PLC0415 -- rarely needed, and --help must be quick

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--limits {path}: not TOML: {error}") from error
    policies = content.get("policy", {})
    if not isinstance(policies, dict) or not all(isinstance(one, dict) for one in policies.values()):
        raise typer.BadParameter(f'--limits {path}: expected tables such as [policy."spam"]')
    _check_names(path, content, ("max_error_rate", *_LENGTHS, "policy"), "")
    for policy, table in policies.items():
        _check_names(path, table, ("max_error_rate",), f" in [policy.{json.dumps(policy)}]")
    content["policy"] = {policy: table["max_error_rate"] for policy, table in policies.items() if table}
    return content


def _check_names(path: Path, table: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in known:
            raise typer.BadParameter(
                f"--limits {path}: unknown limit {name!r}{where}; known: {', '.join(known)}"
            )
