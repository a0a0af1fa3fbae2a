"""``simulate``: a SafetyKit on this machine, for trying things."""

from __future__ import annotations

import datetime as dt
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from safetykit_analytics.cli.terminal import Loudness

_API_KEY = "simulated"
# There are batches to ask for at once.
_HEAD_START = dt.timedelta(days=1)


def simulate(
    ctx: typer.Context,
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated fleet.")] = 0,
    speed: Annotated[float, typer.Option(help="Seconds of the fleet per second.")] = 600.0,
    faults: Annotated[
        str,
        typer.Option(
            metavar="NAME=SHARE,...", help="Shares of requests that fail: server_error=0.02,latency_s=0.1"
        ),
    ] = "",
    write_ids: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the batch ids, and append new ones as batches are created."),
    ] = None,
) -> None:
    """Serve a simulated SafetyKit until Ctrl-C, and print how to reach it."""
    from safetykit_analytics.simulator import make_fleet, parse_faults, serve  # noqa: PLC0415 -- needs [demo]

    loudness: Loudness = ctx.obj
    if not 0 < speed < math.inf:
        raise typer.BadParameter(f"--speed {speed:g}: expected a finite number greater than 0")
    parsed = parse_faults(faults)
    fleet = make_fleet(seed=seed)
    began = time.monotonic()

    def clock() -> dt.datetime:
        return fleet.start + _HEAD_START + dt.timedelta(seconds=(time.monotonic() - began) * speed)

    written = fleet.created_by(clock())
    with serve(fleet, clock=clock, api_key=_API_KEY, faults=parsed, host=host, port=port) as url:
        # Only now: if the port is taken, the file may belong to the process that has it.
        if write_ids is not None:
            write_ids.write_text(_lines(fleet.batch_ids[:written]), encoding="ascii")
        typer.echo(f"export SAFETYKIT_BASE_URL={url}")
        typer.echo(f"export SAFETYKIT_API_KEY={_API_KEY}")
        loudness.note(
            f"the fleet's time is {clock():%Y-%m-%d %H:%M} UTC; stamp by it with: poll --clock server"
        )
        while True:
            time.sleep(0.2)
            created = fleet.created_by(clock())
            if write_ids is not None and created > written:
                # Unbuffered, in one piece: a reader never sees half an id.
                with write_ids.open("ab", buffering=0) as file:
                    file.write(_lines(fleet.batch_ids[written:created]).encode())
            written = created


def _lines(batch_ids: tuple[str, ...]) -> str:
    return "".join(f"{batch_id}\n" for batch_id in batch_ids)
