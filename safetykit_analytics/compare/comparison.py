"""The result of a comparison: a table, sentences, and how both look to people."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetykit_analytics.formatting import (
    MISSING,
    hours_between,
    in_markdown,
    is_missing,
    number,
    p_value,
    percent,
    percent_interval,
    points,
    points_interval,
    visible_name,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    import pandas as pd

# What opens a heading, a list or a quotation at the start of a list item.
_BLOCK = re.compile(r"^(\s*\d*)([#+=.)-])")


@dataclass(frozen=True, eq=False, repr=False)
class VersionComparison:
    """Policy versions, compared.

    Attributes
    ----------
    table : DataFrame
        One row per version: the baseline, then its candidates in natural order; in a scan policy by policy.
        Where candidates have different baselines, each baseline comes before its own.

        - ``policy_id``, ``policy_version`` (str, NA for none), ``role`` (baseline or candidate)
        - ``n_batches``, ``processed``, ``error`` (int64): of the batches that count, which are terminal, kept
          their labels and processed something
        - ``error_rate``, ``error_rate_low``, ``error_rate_high``; ``df``, the degrees of freedom of this
          interval; ``cancelled_share`` (cancelled / finished)
        - ``throughput_per_batch_hour``: processed / summed hours from creation to the first terminal
          observation
        - of candidates: ``difference`` (candidate - baseline, a fraction, from the strata that both ran in),
          ``difference_low``, ``difference_high``; ``relative_risk``, ``relative_risk_low``,
          ``relative_risk_high`` (NaN unless both have errors there)
        - ``p_value`` (looks="once"), ``e_value`` and ``p_anytime`` (looks="any"); ``p_adjusted``;
          ``mde``, the smallest difference that would be found in 80 % of such comparisons
        - ``design``: side by side, mixed, or before and after; ``overlap``, the share of the two time spans
          in common; ``difference_raw``, of all batches whenever they ended
        - ``verdict``: higher, lower, higher since, lower since, no difference found, or not enough batches;
          NA for a baseline, and where the difference has changed over time
        - ``median_low``, ``median_high`` (timedelta64[us]): bracket of the median time to completion as
          `completion_time` has it, with the version's running batches; NaT where not reached
        - ``note``: codes joined by ``;`` that say why a value is missing or weaker than it looks:
          ``no_terminal_batches``, ``no_decisions``, ``one_batch``, ``few_batches``,
          ``clustering_not_estimable``, ``batches_excluded:N``, ``open:N``, ``no_baseline``,
          ``no_created_at``, ``median_not_reached``, ``difference_changed``

        Interval and verdict come from one test at the row's adjusted level: the interval leaves out 0 exactly
        where the verdict is higher or lower.
    sentences : tuple of str
        The same in plain English: one for each candidate, and what the comparison does not mean.
    confidence : float
    correction : str
        holm, bh or none.
    looks : str
        any or once.
    found_on : tuple of date or None
        One per row: the last local day of the look at which a verdict of higher or lower was first reached.

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> comparison = ska.compare_versions(ska.SnapshotStore("snapshots"))
    >>> comparison
    VersionComparison:
    - nothing to compare: no batches.
    >>> markdown = comparison.to_markdown()
    """

    table: pd.DataFrame
    sentences: tuple[str, ...]
    confidence: float
    correction: str
    looks: str
    found_on: tuple[dt.date | None, ...] = ()

    def __repr__(self) -> str:
        return "VersionComparison:\n" + "\n".join(f"- {sentence}" for sentence in self.sentences)

    def to_markdown(self) -> str:
        """Write the sentences and the table as Markdown.

        Returns
        -------
        str
            A list and a table in GitHub's style; names cannot become markup.
        """
        header, rows = _shown(self.table, self.confidence)
        lines = [*map(as_list_item, self.sentences), ""]
        lines += [_line(header), _line(["---"] * len(header))]
        lines += [_line(map(in_markdown, row)) for row in rows]
        return "\n".join(lines) + "\n"

    def _repr_html_(self) -> str:
        header, rows = _shown(self.table, self.confidence)
        said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.sentences)
        head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
        body = "".join(
            f"<tr>{''.join(f'<td><bdi>{html.escape(cell)}</bdi></td>' for cell in row)}</tr>" for row in rows
        )
        return f"<ul>{said}</ul><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def as_list_item(text: str) -> str:
    """Escape text for a Markdown list item, where its first characters could open a heading or a list too."""
    return "- " + _BLOCK.sub(r"\1\\\2", in_markdown(text))


def _shown(table: pd.DataFrame, confidence: float) -> tuple[list[str], list[list[str]]]:
    """Convert the table into what people read: fewer columns, percent, no long fractions."""
    interval = f"{100 * confidence:g} % CI"
    columns: dict[str, Callable[[Any], str]] = {
        "policy": lambda row: visible_name(row.policy_id),
        "version": lambda row: visible_name(row.policy_version),
        "role": lambda row: row.role,
        "batches": lambda row: number(row.n_batches),
        "decisions": lambda row: number(row.processed),
        f"error rate ({interval})": lambda row: _both(
            percent(row.error_rate), percent_interval(row.error_rate_low, row.error_rate_high)
        ),
        "cancelled": lambda row: percent(row.cancelled_share),
        "per batch hour": lambda row: number(row.throughput_per_batch_hour),
        "median time": lambda row: hours_between(_hours(row.median_low), _hours(row.median_high)),
        f"difference ({interval})": lambda row: _both(
            points(row.difference), points_interval(row.difference_low, row.difference_high)
        ),
        f"relative risk ({interval})": lambda row: _both(
            _ratio(row.relative_risk), f"{_ratio(row.relative_risk_low)} to {_ratio(row.relative_risk_high)}"
        ),
        "p": lambda row: p_value(
            row.p_anytime if is_missing(row.p_value) else row.p_value, alpha=1 - confidence
        ),
        "p adjusted": lambda row: p_value(row.p_adjusted, alpha=1 - confidence),
        "detectable": lambda row: points(row.mde, signed=False),
        "design": lambda row: MISSING if is_missing(row.design) else row.design,
        "verdict": lambda row: MISSING if is_missing(row.verdict) else row.verdict,
        "note": lambda row: row.note.replace(";", ", ").replace("_", " "),
    }
    return list(columns), [
        [write(row) for write in columns.values()] for row in table.itertuples(index=False)
    ]


def _hours(duration: Any) -> float | None:
    return None if is_missing(duration) else duration.total_seconds() / 3600


def _ratio(value: float) -> str:
    return MISSING if is_missing(value) else f"{value:.3g}"


def _both(value: str, interval: str) -> str:
    return value if MISSING in interval else f"{value} ({interval})"
