"""Counters and gauges for Prometheus: OpenMetrics, and the classic text of the textfile collector."""

from __future__ import annotations

import functools
import importlib
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from safetykit_analytics import flow
from safetykit_analytics.arrays import NEVER
from safetykit_analytics.calendar import BEYOND
from safetykit_analytics.formatting import NONE
from safetykit_analytics.health.judge import moment
from safetykit_analytics.labels import LABELS, groups_of, natural_key
from safetykit_analytics.rates import check_executor, check_observations

if TYPE_CHECKING:
    import datetime as dt
    from concurrent.futures import Executor

_COLUMNS = (*flow.BASE_COLUMNS, *LABELS, "pending_count", "batch_status")
_DECISIONS, _BATCHES, _BACKLOG = "safetykit_decisions", "safetykit_batches", "safetykit_backlog_decisions"
_OUTCOMES = ("success", "error", "cancelled")


class _Sums(NamedTuple):
    """What a piece adds; instants in microseconds since 1970 UTC."""

    values: Counter[tuple[str, ...]]  # by name of the metric and labels
    begun: dict[tuple[str, ...], int]  # by policy and version
    oldest_open: int
    last: int


def open_metrics(
    observations: Any,
    *,
    tz: str = "UTC",
    as_of: dt.datetime | dt.date | str | None = None,
    executor: Executor | None = None,
) -> str:
    r"""Return counters and gauges as OpenMetrics text, for Prometheus to scrape.

    .. versionadded:: 0.2.0

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
    tz, as_of, executor : optional
        As for `rates`, but the default `as_of` is now.

    Returns
    -------
    str
        Labels are policies and versions verbatim, "(none)" for none.

        - ``safetykit_decisions_total{policy_id,policy_version,outcome}``: decisions finished, by outcome
          ``success``, ``error`` or ``cancelled``: the sum of all positive increments, created when the first
          batch began. An open batch counts once its policy and version are known; what a batch of unknown
          creation had done before its first observation does not count, as in `rates`.
        - ``safetykit_batches{policy_id,policy_version,status}``: batches by their last status
        - ``safetykit_backlog_decisions{policy_id,policy_version}``: pending in open batches
        - ``safetykit_oldest_open_seconds`` (0 if none is open), ``safetykit_last_observation_age_seconds``

    Raises
    ------
    ModuleNotFoundError
        prometheus_client is not installed; the message says how.

    Examples
    --------
    >>> import pandas as pd
    >>> import safetykit_analytics as ska
    >>> seen = pd.DataFrame({
    ...     "batch_id": "batch_1", "observed_at": [pd.Timestamp("2026-03-02T13:00Z")],
    ...     "created_at": pd.Timestamp("2026-03-02T12:00Z"), "batch_status": "PENDING", "batch_count": 100,
    ...     "success_count": 40, "error_count": 0, "cancelled_count": 0, "pending_count": 60,
    ...     "policy_id": "spam", "policy_version": "v1", "has_download": False, "is_terminal": False,
    ... })
    >>> text = ska.open_metrics(seen, as_of="2026-03-02T13:05Z")
    >>> print(next(line for line in text.splitlines() if 'outcome="success"' in line))
    safetykit_decisions_total{outcome="success",policy_id="spam",policy_version="v1"} 40.0
    """
    families = _families(observations, tz=tz, as_of=as_of, executor=executor, with_created=True)
    return str(_imported("openmetrics.exposition").generate_latest(families), "utf-8")


def text_metrics(observations: Any, *, tz: str = "UTC", as_of: Any = None) -> str:
    """Return the same in the classic text format, version 0.0.4, which has no created timestamps."""
    families = _families(observations, tz=tz, as_of=as_of, executor=None, with_created=False)
    return str(_imported("exposition").generate_latest(families), "utf-8")


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(f"prometheus_client.{module}")
    except ModuleNotFoundError as error:
        what = f"{error.name} is not installed: pip install 'safetykit-analytics[metrics]'"
        raise ModuleNotFoundError(what, name=error.name) from error


def _families(observations: Any, *, tz: str, as_of: Any, executor: Any, with_created: bool) -> Any:
    core = _imported("core")
    now = moment(as_of, tz)
    check_executor(executor)
    check_observations(observations)
    sums = _summed(observations, now, executor)
    gauge = core.GaugeMetricFamily
    families = {
        _DECISIONS: core.CounterMetricFamily(_DECISIONS, "Decisions finished.", labels=[*LABELS, "outcome"]),
        _BATCHES: gauge(_BATCHES, "Batches by their last status.", labels=[*LABELS, "status"]),
        _BACKLOG: gauge(_BACKLOG, "Decisions pending in open batches.", labels=LABELS),
    }
    order = functools.cache(natural_key)
    for key in sorted(sums.values, key=lambda key: (*map(order, key[1:3]), key[3:])):
        name, *labels = key
        created = {"created": sums.begun[key[1:3]] / 1e6} if with_created and name == _DECISIONS else {}
        families[name].add_metric(labels, sums.values[key], **created)
    oldest = gauge("safetykit_oldest_open_seconds", "Age of the oldest open batch.")
    oldest.add_metric([], max(0.0, (now - sums.oldest_open) / 1e6))
    age = gauge("safetykit_last_observation_age_seconds", "Time since the last observation.")
    if sums.last != NEVER:
        age.add_metric([], (now - sums.last) / 1e6)
    return SimpleNamespace(collect=lambda: [*families.values(), oldest, age])


def _summed(observations: Any, now: int, executor: Executor | None) -> _Sums:
    def run(listing: flow.Listing) -> _Sums:
        values, begun, oldest, last = Counter[tuple[str, ...]](), dict[tuple[str, ...], int](), BEYOND, NEVER
        for _, piece in flow.reduced(listing, _reduce, columns=_COLUMNS, labels=LABELS, executor=executor):
            values.update(piece.values)
            begun |= {group: min(at, begun.get(group, BEYOND)) for group, at in piece.begun.items()}
            oldest, last = min(oldest, piece.oldest_open), max(last, piece.last)
        return _Sums(values, begun, oldest, last)

    return flow.with_listing(observations, _COLUMNS, now, run)


def _reduce(rows: flow.Rows) -> _Sums:
    """Reduce whole batches to sums by group; additive over pieces."""
    runs = rows.run[:-1]
    batch = rows.batch[runs]
    group, labels = groups_of([rows.labels[name] for name in LABELS], len(runs))
    groups, n = [tuple(NONE if name is None else name for name in names) for names in labels], len(labels)
    first, last = rows.first[:-1], rows.first[1:] - 1
    own, is_open = group[rows.last_run], ~rows.terminal[last]
    # Labels are filled: only a batch that never had one lacks it at its last row.
    is_known = np.array([None not in names for names in labels], dtype=np.bool_)[own]
    counted = (is_known | ~is_open)[batch]
    present = np.unique(group[counted]).tolist()
    values: Counter[tuple[str, ...]] = Counter()
    for outcome, work in zip(_OUTCOMES, _risen(rows)[:, counted], strict=True):
        done = np.bincount(group[counted], weights=work, minlength=n)
        values.update({(_DECISIONS, *groups[code], outcome): int(done[code]) for code in present})
    begin = np.where(rows.begin == NEVER, rows.t[first], rows.begin)
    begun = np.full(n, BEYOND)
    np.minimum.at(begun, group, begin[batch])
    status = rows.take("batch_status", last).dictionary_encode()
    names = status.dictionary.to_pylist()
    place = own * len(names) + status.indices.to_numpy()
    for at, count in zip(*np.unique(place, return_counts=True), strict=True):
        values[_BATCHES, *groups[at // len(names)], names[at % len(names)]] += int(count)
    pending = np.bincount(own, weights=np.where(is_open, rows.numbers("pending_count")[last], 0), minlength=n)
    values.update({(_BACKLOG, *groups[code]): int(pending[code]) for code in np.unique(own).tolist()})
    first_begun = {groups[code]: int(begun[code]) for code in present}
    return _Sums(values, first_begun, int(begin[is_open].min(initial=BEYOND)), int(rows.t.max(initial=NEVER)))


def _risen(rows: flow.Rows) -> Any:
    """Sum the positive increments of the counters in each run."""
    counts, first, runs = rows.counts, rows.first[:-1], rows.run[:-1]
    before = counts[:, runs - 1]
    # A batch begins at zero; without a creation time, at its first observation.
    begins = runs == first[rows.batch[runs]]
    unplaced = (rows.begin == NEVER)[rows.batch[runs]]
    before[:, begins] = np.where(unplaced[begins], counts[:, runs[begins]], 0)
    risen = counts[:, rows.run[1:] - 1] - before
    falls = np.flatnonzero((counts[:, 1:] < counts[:, :-1]).any(axis=0)) + 1
    falls = falls[rows.batch[falls] == rows.batch[falls - 1]]
    place = np.searchsorted(runs, falls, "right") - 1
    for sums, fallen in zip(risen, np.maximum(counts[:, falls - 1] - counts[:, falls], 0), strict=True):
        np.add.at(sums, place, fallen)
    return risen
