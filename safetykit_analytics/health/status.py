"""The state of a store: one screen for an operator."""

from __future__ import annotations

from typing import Any

import pandas as pd

from safetykit_analytics import flow
from safetykit_analytics.calendar import from_us, to_us
from safetykit_analytics.health.judge import moment
from safetykit_analytics.rates import parse_length, stalled_batches


def status(store: Any, *, stalled: str, silent: str, tz: str = "UTC", as_of: Any = None) -> dict[str, Any]:
    """Count open batches of a store and those that need a look; read only these."""
    idle, silence = parse_length(stalled, "stalled"), parse_length(silent, "silent")
    now = moment(as_of, tz)
    last = store.info().last_observed_at
    is_past = last is not None and to_us(last) > now
    seen = store if is_past else store.read(batch_ids=store.open_batch_ids())
    running = flow.select(seen, start=now, end=now + 1, as_of=now)
    if is_past:
        last = None if running.last_observed is None else from_us(running.last_observed)
    batches = flow.batch_summary(running, as_of=now)
    batches = batches[~batches["is_terminal"]]
    is_late = batches["last_observed_at"] < pd.Timestamp(last) - silence
    return {
        "last_observed_at": last,
        "age_s": None if last is None else (from_us(now) - last).total_seconds(),
        "open": len(batches),
        "stalled": len(stalled_batches(running, idle=idle.to_pytimedelta(), as_of=from_us(now))),
        "unanswered": int(is_late.sum()),
    }
