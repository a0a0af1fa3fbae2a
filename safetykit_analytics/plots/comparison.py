"""Forest plot: how much each candidate's error rate differs from the baseline's, and how sure that is.

Place in the flow: compare → **plots** → a slide, or the report. Differences, intervals and verdicts come
with the comparison.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from safetykit_analytics.plots.axes import GREY, plain, width_inches
from safetykit_analytics.plots.legend import Entry
from safetykit_analytics.plots.panel import Panel, Plot, draw_alone
from safetykit_analytics.plots.rows import number, rows_height, rows_of, write_rows
from safetykit_analytics.plots.series import POLICY, names_in, shown_name
from safetykit_analytics.wording import percent, percent_interval, plural, points, points_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.rows import Row
    from safetykit_analytics.plots.series import Names

_COLUMNS = (
    "policy_id", "policy_version", "role", "n_batches", "processed", "error_rate", "error_rate_low",
    "error_rate_high", "difference", "difference_low", "difference_high", "mde", "verdict",
)  # fmt: skip
_FOUND = ("higher", "lower")
_ROOM_FOR_DIRECTIONS = 5.0  # inches
# An interval from three batches may be 40 points wide: it must not flatten all others.
_REACH = 3.0


def plot_comparison(comparison: Any, *, ax: Axes | None = None) -> Axes:
    """Draw differences in error rate from the baseline, with their intervals and verdicts.

    Parameters
    ----------
    comparison : VersionComparison or DataFrame
        What ``compare_versions`` returns, or its ``.table``.
    ax : matplotlib Axes, optional
        Where to draw. Without it, a new figure that pyplot does not know: ``ax.figure`` shows and saves it.

    Returns
    -------
    matplotlib Axes
        One row per candidate, the ten with most decisions, in percentage points. A filled marker stands for a
        verdict of higher or lower, a hollow one for none. An interval that leaves the picture has an arrow.

    Raises
    ------
    TypeError
        Neither a comparison nor a DataFrame.
    UnknownName
        A column is missing.

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
    >>> axes = ska.plot_comparison(comparison)
    >>> axes.figure.savefig("comparison.png")
    """
    return draw_alone(COMPARISON, getattr(comparison, "table", comparison), ax)


def _draw(table: pd.DataFrame, ax: Axes, names: Names) -> Panel:
    candidates = table[table["role"] == "candidate"]
    rows, shared, left_out = rows_of(candidates, names, volume="processed")
    baselines = table[table["role"] == "baseline"]
    against = (
        shown_name(_name(baselines.iloc[0]["policy_version"])) if len(baselines) == 1 else "the baseline"
    )
    about = f": {shared}" if shared else ""
    panel = Panel(
        title=f"Error rate against {against}{about}",
        shared_title=f"Error rate against the baseline{about}",
        own_title=f"against {against}" if rows else "",
    )
    ax.set_xlabel("difference, percentage points")
    if not rows:
        plain(ax, grid="x")
        panel.is_empty = True
        return panel
    write_rows(ax, _with_baselines(rows, baselines), [_words(row.data) for row in rows])
    low, high = _span(rows)
    ax.axvline(0.0, color="0.25", linewidth=1.2, zorder=1)
    for place, row in enumerate(rows):
        _draw_row(ax, place, row, low, high)
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    if width_inches(ax) > _ROOM_FOR_DIRECTIONS:
        # No-break spaces: a browser makes one of several others in an SVG.
        gap = "\u00a0" * 6
        ax.set_xlabel(f"← fewer errors{gap}difference from the baseline, percentage points{gap}more errors →")
    panel.span = (low, high)
    panel.detail = _detail(baselines, len(names_in(candidates).policies), left_out)
    panel.words_right = True
    panel.key = _key(rows)
    return panel


def _tick(fraction: float) -> str:
    """Write percentage points where an axis names the unit; ticks are round, so all of their digits."""
    size = round(100 * fraction, 9)
    return f"{size:+.6g}".replace("-", "−") if size else "0"


def _draw_row(ax: Axes, place: int, row: Row, left: float, right: float) -> None:
    middle, low, high = (
        number(row.data[name]) for name in ("difference", "difference_low", "difference_high")
    )
    found = row.data["verdict"] in _FOUND
    look: dict[str, Any] = {"color": row.style.color, "zorder": 3}
    if np.isfinite(low) and np.isfinite(high):
        shown = max(low, left), min(high, right)
        ax.plot(shown, [place, place], linewidth=2.6, linestyle="-" if found else (0, (1.2, 0.8)), **look)
        for end, cut, marker in ((shown[0], low < left, "<"), (shown[1], high > right, ">")):
            ax.plot([end], [place], marker=marker if cut else "|", markersize=8, markeredgewidth=1.6, **look)
    if np.isfinite(middle) and left <= middle <= right:
        face = row.style.color if found else "white"
        look |= {"marker": row.style.marker, "markersize": 9, "markerfacecolor": face, "zorder": 4}
        ax.plot([middle], [place], markeredgewidth=1.6, **look)


def _span(rows: list[Row]) -> tuple[float, float]:
    """Return what the x axis shows: zero, all differences, and intervals up to three times as far."""
    middles = np.array([number(row.data["difference"]) for row in rows])
    ends = np.array(
        [number(row.data[name]) for row in rows for name in ("difference_low", "difference_high")]
    )
    middles, ends = middles[np.isfinite(middles)], ends[np.isfinite(ends)]
    inner = np.abs(ends).min(initial=np.inf)
    reach = _REACH * max(float(np.abs(middles).max(initial=0.0)), float(inner) if np.isfinite(inner) else 0.0)
    if reach == 0:
        return -0.01, 0.01
    low = min(float(middles.min(initial=0.0)), max(-reach, float(ends.min(initial=0.0))))
    high = max(float(middles.max(initial=0.0)), min(reach, float(ends.max(initial=0.0))))
    room = 0.06 * (high - low)
    return low - room, high + room


def _words(data: dict[str, Any]) -> str:
    verdict = "no verdict" if pd.isna(data["verdict"]) else str(data["verdict"])
    middle, low, high = (number(data[name]) for name in ("difference", "difference_low", "difference_high"))
    if np.isnan(middle):
        said = verdict
    elif np.isnan(low) or np.isnan(high):
        said = f"{points(middle)}: {verdict}"
    else:
        said = f"{points(middle)} ({points_interval(low, high)}): {verdict}"
    seen = number(data["mde"])
    if verdict == "no difference found" and np.isfinite(seen):
        said += f"\n{points(seen, signed=False)} or more would have been seen"
    return f"{said}\n{_counts(data)}"


def _detail(baselines: pd.DataFrame, n_compared: int, left_out: int) -> str:
    """Say what the baseline is, or how many there are."""
    smaller = f"; not drawn: {left_out:,} with fewer decisions" if left_out else ""
    if len(baselines) != 1:
        return f"{plural(n_compared, 'policy', 'policies')}, each against its own baseline{smaller}"
    base = baselines.iloc[0]
    rate, low, high = (number(base[name]) for name in ("error_rate", "error_rate_low", "error_rate_high"))
    between = f" ({percent_interval(low, high)})" if np.isfinite(low + high) else ""
    said = f"{percent(rate)}{between}" if np.isfinite(rate) else "no error rate"
    return f"baseline {shown_name(_name(base['policy_version']))}: {said}, {_counts(base)}{smaller}"


def _counts(data: Any) -> str:
    batches, decisions = number(data["n_batches"]), number(data["processed"])
    return f"{plural(batches, 'batch')}, {plural(decisions, 'decision')}"


def _key(rows: list[Row]) -> list[Entry]:
    """Explain filled and hollow markers, as far as they are there."""
    look: dict[str, Any] = {"color": GREY, "marker": "o", "markersize": 8, "markeredgewidth": 1.6}
    found = {row.data["verdict"] in _FOUND for row in rows}
    solid = Line2D([], [], linewidth=2.6, **look)
    hollow = Line2D([], [], linewidth=2.6, linestyle=(0, (1.2, 0.8)), markerfacecolor="white", **look)
    return [Entry(solid, "verdict: higher or lower")] * (True in found) + [
        Entry(hollow, "no difference found,", "or not enough batches")
    ] * (False in found)


def _with_baselines(rows: list[Row], baselines: pd.DataFrame) -> list[str]:
    """Name each row; where policies have baselines of their own, say which."""
    if len(baselines) < 2 or POLICY not in baselines:
        return [row.label for row in rows]
    of = {
        _name(policy): shown_name(_name(version))
        for policy, version in zip(baselines[POLICY], baselines["policy_version"], strict=True)
    }
    return [f"{row.label}\nagainst {of.get(_name(row.data[POLICY]), 'the baseline')}" for row in rows]


def _name(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


COMPARISON = Plot(
    "compare_versions()",
    _COLUMNS,
    _draw,
    share_y=False,
    most_columns=2,
    height=lambda table: rows_height(int((table["role"] == "candidate").sum())),
)
