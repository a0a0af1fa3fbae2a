"""The result of a comparison: a table, sentences, and how both look to people.

Place in the flow: `versions` → **comparison** → plots, report, notebooks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from safetykit_analytics.compare.words import (
    as_list_item,
    duration,
    in_html,
    in_markdown,
    percent,
    points,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, eq=False, repr=False)
class VersionComparison:
    """Policy versions, compared.

    Attributes
    ----------
    table : DataFrame
        One row per version: the baseline, then the candidates in natural order; in a scan policy by policy.

        - ``policy_id``, ``policy_version`` (str, NA for none), ``role`` (baseline or candidate)
        - ``n_batches``, ``processed``, ``error`` (int64): of the batches that count, which are terminal, kept
          their labels and processed something
        - ``error_rate``, ``error_rate_low``, ``error_rate_high``, ``cancelled_share`` (cancelled / finished)
        - ``throughput_per_hour``: processed / hours from creation to the first terminal observation
        - of candidates: ``difference`` (candidate - baseline, a fraction), ``difference_low``,
          ``difference_high``; ``relative_risk``, ``relative_risk_low``, ``relative_risk_high`` (NaN unless
          both have errors); ``df``, ``p_value``, ``p_adjusted``; ``mde``, the smallest difference that would
          be found in 80 % of such comparisons, not adjusted; ``overlap``, the share of the two time spans
          in common
        - ``verdict``: higher, lower, no difference found, or not enough batches; NA for a baseline
        - ``median_low``, ``median_high`` (timedelta64[us]): bracket of the median time to completion as
          `completion_time` has it, with the version's running batches; NaT where not reached
        - ``note``: codes joined by ``;`` that say why a value is missing or weaker than it looks:
          ``no_terminal_batches``, ``no_decisions``, ``one_batch``, ``few_batches``,
          ``clustering_not_estimable``, ``batches_excluded:N``, ``no_baseline``, ``no_created_at``,
          ``median_not_reached``

        Intervals are for one comparison each; the verdict goes by ``p_adjusted``.
    sentences : tuple of str
        The same in plain English: one for each candidate, and what the comparison does not mean.
    confidence : float
    correction : str
        holm, bh or none.

    Examples
    --------
    >>> import pandas as pd
    >>> import safetykit_analytics as ska
    >>> errors = [18, 22, 19, 25, 21, 17, 35, 41, 29, 38, 33, 36]
    >>> batches = pd.DataFrame({
    ...     "batch_id": [f"batch_{number}" for number in range(12)],
    ...     "observed_at": pd.Timestamp("2026-03-09T12:00Z"),
    ...     "created_at": pd.Timestamp("2026-03-09T11:00Z"),
    ...     "batch_status": "SUCCESS", "batch_count": 1000,
    ...     "success_count": [1000 - error for error in errors], "error_count": errors,
    ...     "cancelled_count": 0, "pending_count": 0, "policy_id": "spam",
    ...     "policy_version": ["v7"] * 6 + ["v8"] * 6, "has_download": True, "is_terminal": True,
    ... })
    >>> comparison = ska.compare_versions(batches, policy_id="spam", baseline="v7")
    >>> comparison.table.loc[1, ["policy_version", "error_rate", "difference", "p_value", "verdict"]]
    policy_version          v8
    error_rate        0.035333
    difference           0.015
    p_value           0.000047
    verdict             higher
    Name: 1, dtype: object
    """

    table: pd.DataFrame
    sentences: tuple[str, ...]
    confidence: float
    correction: str

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
        said = "".join(f"<li>{in_html(sentence)}</li>" for sentence in self.sentences)
        head = "".join(f"<th>{in_html(name)}</th>" for name in header)
        body = "".join(
            f"<tr>{''.join(f'<td><bdi>{in_html(cell)}</bdi></td>' for cell in row)}</tr>" for row in rows
        )
        return f"<ul>{said}</ul><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(table: pd.DataFrame, confidence: float) -> tuple[list[str], list[list[str]]]:
    """Turn the table into what people read: fewer columns, percent, no long fractions."""
    interval = f"{100 * confidence:g} % CI"
    columns: dict[str, Callable[[Any], str]] = {
        "policy": lambda row: visible(row.policy_id),
        "version": lambda row: visible(row.policy_version),
        "role": lambda row: row.role,
        "batches": lambda row: f"{row.n_batches:,}",
        "decisions": lambda row: f"{row.processed:,}",
        f"error rate ({interval})": lambda row: _or_nothing(
            row.error_rate,
            lambda x: f"{percent(x)}{_range(row.error_rate_low, row.error_rate_high, percent)}",
        ),
        "cancelled": lambda row: _or_nothing(row.cancelled_share, percent),
        "per hour": lambda row: _or_nothing(row.throughput_per_hour, lambda x: f"{x:,.1f}"),
        "median time": lambda row: duration(row.median_low, row.median_high),
        f"difference, pp ({interval})": lambda row: _or_nothing(
            row.difference, lambda _: "{} ({} to {})".format(*difference(row))
        ),
        f"relative risk ({interval})": lambda row: _or_nothing(
            row.relative_risk,
            lambda x: f"{x:.3g}{_range(row.relative_risk_low, row.relative_risk_high, lambda y: f'{y:.3g}')}",
        ),
        "p": lambda row: _or_nothing(row.p_value, lambda x: f"{x:.2g}"),
        "p adjusted": lambda row: _or_nothing(row.p_adjusted, lambda x: f"{x:.2g}"),
        "detectable, pp": lambda row: _or_nothing(row.mde, lambda x: points(x, x)[0]),
        "overlap": lambda row: _or_nothing(row.overlap, lambda x: f"{100 * x:.0f} %"),
        "verdict": lambda row: _or_nothing(row.verdict, str),
        "note": lambda row: row.note.replace(";", ", ").replace("_", " "),
    }
    return list(columns), [
        [write(row) for write in columns.values()] for row in table.itertuples(index=False)
    ]


def _or_nothing(value: Any, write: Callable[[Any], str]) -> str:
    return "" if pd.isna(value) else write(value)


def _range(low: float, high: float, write: Callable[[float], str]) -> str:
    return "" if pd.isna(low) else f" ({write(low)} to {write(high)})"


def difference(row: Any) -> tuple[str, str, str]:
    """Write the difference (with its sign) and the ends of its interval in percentage points."""
    middle, low, high = points(
        (row.difference_high - row.difference_low) / 2,
        row.difference,
        row.difference_low,
        row.difference_high,
    )
    return middle if middle.startswith("-") else f"+{middle}", low, high
