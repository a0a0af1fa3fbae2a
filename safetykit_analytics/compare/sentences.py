"""What a comparison of versions shows, in plain English.

Place in the flow: below `versions`. A table goes in, sentences come out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from safetykit_analytics.stats.difference import MIN_BATCHES
from safetykit_analytics.stats.rate import MIN_DF
from safetykit_analytics.wording import p_value, percent, points, points_interval, visible_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_METHODS = {"holm": "Holm", "bh": "Benjamini-Hochberg"}
_LITTLE_OVERLAP = 0.5


def sentences(table: pd.DataFrame, *, confidence: float, correction: str) -> tuple[str, ...]:
    """Say what each candidate's row means, and what the whole does not mean.

    Parameters
    ----------
    table : DataFrame
        As `VersionComparison.table`.
    confidence : float
        Of the intervals.
    correction : {"holm", "bh", "none"}

    Returns
    -------
    tuple of str
        Names with invisible characters escaped; no markup.
    """
    policies = table["policy_id"].nunique(dropna=False)
    n_tests = int(table["p_value"].notna().sum())
    rows: list[Any] = list(table.itertuples(index=False))
    found: list[str] = []
    base: Any = None
    for row in rows:
        if row.role == "baseline":
            base = row
            continue
        if base is not None and not _is_same(base.policy_id, row.policy_id):
            base = None
        about = f"policy {visible_name(row.policy_id)}: " if policies > 1 else ""
        found.append(about + " ".join(_about(row, base, confidence, correction, n_tests)))
    if not found:
        why = ["no batches", "there is only one version", "no policy has more than one version"]
        return (f"nothing to compare: {why[min(len(rows), 2)]}.",)
    found.append(
        "Versions are not assigned to batches at random, and who looks every week looks many times: read "
        '"associated with", not "caused by".'
    )
    return tuple(found)


def _is_same(one: Any, other: Any) -> bool:
    return bool(pd.isna(one) and pd.isna(other)) or bool(pd.notna(one) and pd.notna(other) and one == other)


def _about(row: Any, base: Any, confidence: float, correction: str, n_tests: int) -> Iterator[str]:
    name = visible_name(row.policy_version)
    if base is None:
        yield f"not enough batches: this policy has no baseline to compare {name} with."
        return
    against = visible_name(base.policy_version)
    if row.verdict == "not enough batches":
        yield f"not enough batches to compare {name} with {against}: {_missing(row, base)}."
        if not pd.isna(row.difference):
            yield f"So far {_difference(row, confidence)}."
        return
    n_batches = f"{row.n_batches:,} against {base.n_batches:,} batches"
    p = _probability(row.p_value, 1 - confidence)
    if row.verdict == "no difference found":
        yield (
            f"no difference found between {name} and {against}: {_difference(row, confidence)}, {p}, "
            f"{n_batches}; one of at least {points(row.mde, signed=False)} would have been seen "
            f"(in 80 % of such comparisons)."
        )
    else:
        yield (
            f"{name} is associated with a {row.verdict} error rate than {against}: "
            f"{_difference(row, confidence)}, {p}, {n_batches}."
        )
    yield from _adjusted(row, confidence, correction, n_tests)
    if row.overlap < _LITTLE_OVERLAP:
        yield (
            f"Their batches share {percent(row.overlap)} of their time, so that whatever else changed "
            f"meanwhile is in it too."
        )


def _adjusted(row: Any, confidence: float, correction: str, n_tests: int) -> Iterator[str]:
    """Say where the adjustment decides, as the interval next to it is not adjusted."""
    if row.p_adjusted == row.p_value:
        return
    alpha = 1 - confidence
    p = _probability(row.p_adjusted, alpha)
    if p != _probability(row.p_value, alpha):
        yield f"Adjusted for {n_tests} comparisons ({_METHODS[correction]}): {p}."
    if (row.p_value < alpha) != (row.p_adjusted < alpha):
        yield "The interval is not adjusted; the verdict is."


def _difference(row: Any, confidence: float) -> str:
    interval = points_interval(row.difference_low, row.difference_high)
    return f"{points(row.difference)} ({100 * confidence:g} % CI {interval})"


def _probability(p: float, alpha: float) -> str:
    shown = p_value(p, alpha=alpha)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def _missing(row: Any, base: Any) -> str:
    """Say what a verdict lacks."""
    for side in (row, base):
        codes = side.note.split(";")
        if "no_terminal_batches" in codes:
            return f"no batch of {visible_name(side.policy_version)} has ended yet"
        if "no_decisions" in codes:
            return f"the batches of {visible_name(side.policy_version)} that ended have processed nothing"
    if min(row.n_batches, base.n_batches) < MIN_BATCHES:
        return f"{MIN_BATCHES} are needed on each side, there are {row.n_batches} against {base.n_batches}"
    if pd.notna(row.df):
        return (
            f"{row.n_batches} against {base.n_batches} batches of these sizes are worth "
            f"{math.floor(10 * row.df) / 10} degrees of freedom, and {MIN_DF:.0f} are needed"
        )
    for side in (row, base):
        if side.error in {0, side.processed}:
            what = "no errors" if side.error == 0 else "nothing but errors"
            name = visible_name(side.policy_version)
            return f"{name} has {what}, which does not tell how much its batches differ"
    return "the batches of one side all have the same rate, which does not tell how much batches differ"
