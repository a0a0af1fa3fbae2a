"""What a comparison of versions shows, in plain English: a table goes in, sentences come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from safetykit_analytics.formatting import p_value, plural, points, points_interval, visible_name
from safetykit_analytics.stats import MIN_BATCHES

if TYPE_CHECKING:
    from collections.abc import Iterator

_DECIDED = ["higher", "lower", "no difference found"]
_METHODS = {"holm": "Holm", "bh": "Benjamini-Hochberg"}


def sentences(
    table: pd.DataFrame, found: pd.DataFrame, *, confidence: float, correction: str, looks: str
) -> tuple[str, ...]:
    """Return what each candidate's row means, and what the whole does not mean; no markup.

    `found`, a row each, is as `judge` has it. `confidence` is that before it is adjusted.
    """
    policies = table["policy_id"].nunique(dropna=False)
    tested = int(table["p_adjusted"].notna().sum())
    method = _METHODS.get(correction) if tested > 1 else None
    rows: list[Any] = list(table.assign(**found[["moved", "next_move", "missing"]]).itertuples(index=False))
    said: list[str] = []
    base: Any = None
    for row in rows:
        if row.role == "baseline":
            base = row
            continue
        if base is not None and base.policy_id != row.policy_id:
            base = None
        about = f"policy {visible_name(row.policy_id)}: " if policies > 1 else ""
        words = _about(row, base, confidence=confidence, looks=looks)
        said.append(about + " ".join(words))
    if not said:
        why = ["no batches", "there is only one version", "no policy has more than one version"]
        return (f"nothing to compare: {why[min(len(rows), 2)]}.",)
    adjusted = (
        f" p-values and intervals are adjusted for {tested:,} comparisons ({method})." if method else ""
    )
    often = (
        "These verdicts may be looked at again every week."
        if looks == "any"
        else "These verdicts are for a single look."
    )
    said.append(
        f"{often}{adjusted} Versions are not assigned to batches at random: read "
        '"associated with", not "caused by".'
    )
    return tuple(said)


def _about(row: Any, base: Any, *, confidence: float, looks: str) -> Iterator[str]:
    name = visible_name(row.policy_version)
    if base is None:
        yield f"not enough batches: this policy has no baseline to compare {name} with."
        return
    against = visible_name(base.policy_version)
    alpha = 1.0 - confidence
    n_batches = f"{row.n_batches:,} against {base.n_batches:,} batches"
    p = _probability(row.p_anytime if looks == "any" else row.p_value, alpha)
    if pd.isna(row.verdict):
        yield f"no verdict on {name} against {against}: the difference between them has changed over time."
    elif row.verdict == "not enough batches":
        yield f"not enough batches to compare {name} with {against}: {_lacking(row, base)}."
        if not pd.isna(row.difference):
            yield f"So far {points(row.difference)}."
        elif not pd.isna(row.difference_raw):
            yield f"So far {points(row.difference_raw)}, one after the other."
    elif row.design == "before and after":
        yield from _since(row, name, against, p=p, n_batches=n_batches)
    elif row.verdict == "no difference found":
        seen = (
            f"; one of at least {points(row.mde, signed=False)} would have been seen "
            "(in 80 % of such comparisons)"
            if not pd.isna(row.mde)
            else ""
        )
        yield (
            f"no difference found between {name} and {against}, {_design(row)}: "
            f"{_difference(row, confidence)}, {p}, {n_batches}{seen}."
        )
    else:
        yield (
            f"{name} is associated with a {row.verdict} error rate than {against}, {_design(row)}: "
            f"{_difference(row, confidence)}, {p}, {n_batches}."
        )
    if not pd.isna(row.verdict) and row.verdict in _DECIDED and row.design == "mixed":
        yield (
            f"Only the days on which both ran are compared; all batches together differ by "
            f"{points(row.difference_raw)}."
        )


def _since(row: Any, name: str, against: str, *, p: str, n_batches: str) -> Iterator[str]:
    """Yield what a hand-over shows: at most that something changed when the version did."""
    before = (
        "how much the policy's weeks move anyway is not known, without two neighbouring weeks of one version"
    )
    if not np.isnan(row.moved):
        before = f"the policy's own weeks moved by up to {points(row.moved, signed=False)}"
        if row.next_move > row.moved:
            before += f", and the next may by {points(row.next_move, signed=False)}"
    if row.verdict == "no difference found":
        yield (
            f"no difference found since {name}, which never ran beside {against}: "
            f"{points(row.difference_raw)}, {p}, {n_batches}; {before}."
        )
    else:
        yield (
            f"{row.verdict} {name}, which never ran beside {against}: {points(row.difference_raw)}, {p}, "
            f"{n_batches}; {before}. Whatever else changed then is in it too."
        )


def _design(row: Any) -> str:
    return "side by side" if row.design == "side by side" else "partly side by side"


def _difference(row: Any, confidence: float) -> str:
    interval = points_interval(row.difference_low, row.difference_high)
    return f"{points(row.difference)} ({100 * confidence:g} % interval {interval})"


def _probability(p: float, alpha: float) -> str:
    shown = p_value(p, alpha=alpha)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def _lacking(row: Any, base: Any) -> str:
    for side in (row, base):
        codes = side.note.split(";")
        if "no_terminal_batches" in codes:
            return f"no batch of {visible_name(side.policy_version)} has ended yet"
        if "no_decisions" in codes:
            return f"the batches of {visible_name(side.policy_version)} that ended have processed nothing"
    name, against = visible_name(row.policy_version), visible_name(base.policy_version)
    if min(row.n_batches, base.n_batches) < MIN_BATCHES and np.isnan(row.missing):
        return f"{MIN_BATCHES} are needed on each side, there are {row.n_batches} against {base.n_batches}"
    if np.isnan(row.missing):
        return f"too few of {name} and {against} ended on the same days"
    more = plural(int(row.missing), "more batch", "more batches")
    return f"at least {more} of {name} on one day beside {against}"
