"""Forest plot: how much each candidate's error rate differs from the baseline's, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from safetykit_analytics.formatting import NONE, percent, percent_interval, plural, points, points_interval
from safetykit_analytics.plots.axes import GREY, number_axis, plain, room, text_size
from safetykit_analytics.plots.panel import Entry, Panel, Plot, draw_alone
from safetykit_analytics.plots.rows import mark_open_end, number, rows_height, rows_of, write_rows
from safetykit_analytics.plots.series import POLICY, VERSION, keys_of, name_of
from safetykit_analytics.plots.text import literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.rows import Row
    from safetykit_analytics.plots.series import Names

_COLUMNS = (
    "policy_id", "policy_version", "role", "n_batches", "processed", "error_rate", "error_rate_low",
    "error_rate_high", "difference", "difference_low", "difference_high", "mde", "verdict",
)  # fmt: skip
# By the strength of a verdict: how a marker is filled; an interval without a verdict is dashed.
_FILLS = ("full", "bottom", "none")
_LINES: dict[str, Any] = {"full": "-", "bottom": "-", "none": (0, (1.2, 0.8))}
_ROOM_FOR_DIRECTIONS = 8.0  # inches
# An interval from three batches may be 40 points wide: it must not flatten all others.
_REACH = 3.0


def plot_comparison(comparison: Any, *, ax: Axes | None = None) -> Axes:
    """Draw differences in error rate from the baseline, with their intervals and verdicts.

    Parameters
    ----------
    comparison : VersionComparison or DataFrame
        What ``compare_versions`` returns, or its ``.table``.
    ax : matplotlib Axes, optional
        Where to draw; without it, on a new pyplot figure.

    Returns
    -------
    matplotlib Axes
        One row per candidate, in percentage points: first those with a verdict, then those with most
        decisions, as many as there is room for. A filled marker stands for a verdict of higher or lower, a
        half filled one for higher or lower since (before and after: of the period, without an interval), a
        hollow one for none. An interval that leaves the picture ends in a chevron.

    Raises
    ------
    TypeError
        Neither a comparison nor a DataFrame.
    UnknownName
        A column is missing.

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> store = ska.SnapshotStore("snapshots")
    >>> axes = ska.plot_comparison(ska.compare_versions(store))
    >>> axes.figure.savefig("comparison.png")
    """
    return draw_alone(COMPARISON, getattr(comparison, "table", comparison), ax)


def _draw(table: pd.DataFrame, ax: Axes, names: Names) -> Panel:
    table = table.assign(against=_against(table, names))
    candidates, baselines = (table[table["role"] == role] for role in ("candidate", "baseline"))
    rows, shared, left_out = rows_of(candidates, names, ax, rank=_rank)
    against = baselines["against"].iloc[0] if len(baselines) == 1 else "the baseline"
    about = f": {shared}" if shared else ""
    panel = Panel(
        title=f"Error rate against {against}{about}",
        shared_title=f"Error rate against the baseline{about}",
        own_title=f"against {against}" if rows else "",
    )
    ax.set_xlabel("difference, percentage points")
    if not rows:
        plain(ax, grid="x")
        return panel
    against = "\nagainst {}" if len(baselines) > 1 else ""
    labels = [row.label + against.format(row.data["against"]) for row in rows]
    write_rows(ax, labels, [_words(row.data) for row in rows])
    low, high = _span(rows)
    ax.axvline(0.0, color="0.25", linewidth=1.2, zorder=1)
    for place, row in enumerate(rows):
        _draw_row(ax, place, row, low, high)
    number_axis(ax.xaxis, _tick)
    if room(ax)[0] > _ROOM_FOR_DIRECTIONS * text_size(ax) / 10:
        # No-break spaces: a browser makes one of several others in an SVG.
        gap = "\u00a0" * 4
        ax.set_xlabel(f"← fewer errors{gap}difference, percentage points{gap}more errors →")
    panel.span = (low, high)
    panel.detail = _detail(baselines, candidates, left_out)
    panel.words_right = True
    panel.entries = _key(rows)
    return panel


def _strength(data: dict[str, Any]) -> int:
    """Return the claim of a verdict: 0 a difference, 1 a difference since a hand-over, 2 none."""
    verdict = "" if pd.isna(data["verdict"]) else str(data["verdict"])
    if not verdict.startswith(("higher", "lower")):
        return 2
    return int(verdict.endswith("since"))


def _rank(data: dict[str, Any]) -> tuple[float, ...]:
    return _strength(data), -np.nan_to_num(number(data["processed"]))


def _middle(data: dict[str, Any]) -> float:
    """Return the difference; of versions that were there one after the other, that of the pooled rates."""
    found = number(data["difference"])
    return found if np.isfinite(found) else number(data.get("difference_raw"))


def _tick(fraction: float) -> str:
    """Return percentage points where an axis names the unit; ticks are round, so all of their digits."""
    size = round(100 * fraction, 9)
    return f"{size:+.6g}".replace("-", "−") if size else "0"


def _draw_row(ax: Axes, place: int, row: Row, left: float, right: float) -> None:
    low, high = (number(row.data[name]) for name in ("difference_low", "difference_high"))
    middle, fill = _middle(row.data), _FILLS[_strength(row.data)]
    look: dict[str, Any] = {"color": row.color, "zorder": 3}
    if np.isfinite(low) and np.isfinite(high):
        shown = max(low, left), min(high, right)
        ax.plot(shown, [place, place], linewidth=2.6, linestyle=_LINES[fill], **look)
        for end, is_cut, side in ((shown[0], low < left, "left"), (shown[1], high > right, "right")):
            if is_cut:
                mark_open_end(ax, end, place, side, row.color)
            else:
                ax.plot([end], [place], marker="|", markersize=8, markeredgewidth=1.6, **look)
    if np.isfinite(middle) and left <= middle <= right:
        ax.plot([middle], [place], **look | {"zorder": 4}, **_marker(row.color, fill))


def _marker(color: str, fill: str) -> dict[str, Any]:
    return {
        "marker": "o",
        "markersize": 9,
        "markeredgewidth": 1.6,
        "markeredgecolor": color,
        "markerfacecolor": "white" if fill == "none" else color,
        "markerfacecoloralt": "white",
        "fillstyle": "full" if fill == "none" else fill,
    }


def _span(rows: list[Row]) -> tuple[float, float]:
    """Return the limits of the x axis: zero, all differences, and intervals up to three times as far."""
    middles = np.array([_middle(row.data) for row in rows])
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
    middle, low, high = _middle(data), number(data["difference_low"]), number(data["difference_high"])
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


def _detail(baselines: pd.DataFrame, candidates: pd.DataFrame, left_out: list[dict[str, Any]]) -> str:
    """Describe the baseline, or count the baselines, and count the rows that are not drawn."""
    n_found = sum(_strength(data) < 2 for data in left_out)
    parts = [f"{n_found:,} with a verdict"] * (n_found > 0)
    parts += [f"{len(left_out) - n_found:,} without a verdict"] * (len(left_out) > n_found)
    rest = f"; not drawn: {', '.join(parts)}" if left_out else ""
    if len(baselines) != 1:
        n_compared = len(set(keys_of(candidates, [POLICY])))
        return f"{plural(n_compared, 'policy', 'policies')}, each version against its baseline{rest}"
    base = baselines.iloc[0]
    rate, low, high = (number(base[name]) for name in ("error_rate", "error_rate_low", "error_rate_high"))
    between = f" ({percent_interval(low, high)})" if np.isfinite(low + high) else ""
    said = f"{percent(rate)}{between}" if np.isfinite(rate) else "no error rate"
    return f"baseline {base['against']}: {said}, {_counts(base)}{rest}"


def _counts(data: Any) -> str:
    batches, decisions = number(data["n_batches"]), number(data["processed"])
    return f"{plural(batches, 'batch')}, {plural(decisions, 'decision')}"


def _key(rows: list[Row]) -> list[Entry]:
    """Return the legend of the markers in the picture."""
    found = {_strength(row.data) for row in rows}
    said = ("verdict: higher or lower", "higher or lower since (before and after)", "no verdict")
    return [
        Entry(
            Line2D([], [], color=GREY, linewidth=2.6, linestyle=_LINES[fill], **_marker(GREY, fill)),
            said[strength],
            is_key=True,
        )
        for strength, fill in enumerate(_FILLS)
        if strength in found
    ]


def _against(table: pd.DataFrame, names: Names) -> pd.Series[str]:
    """Return the baseline of each row: the last one above it of its policy, or the first one below."""
    known = names.get(VERSION, {})
    versions = [name_of(version) for version in table[VERSION]]
    shown = [known.get(name) or (NONE if name is None else literal(name)) for name in versions]
    baselines = pd.Series(shown, table.index, dtype="string").where(table["role"] == "baseline")
    of_policy = baselines.groupby([name_of(policy) or NONE for policy in table[POLICY]])
    return of_policy.ffill().fillna(of_policy.bfill()).fillna("the baseline")


def _height(table: pd.DataFrame) -> float:
    """Return the height that holds ten rows, or up to twenty that have a verdict."""
    records = table[table["role"] == "candidate"].to_dict("records")
    n_found = sum(_strength(data) < 2 for data in records)
    return rows_height(len(records), most=min(20, max(10, n_found)))


COMPARISON = Plot(
    "compare_versions()",
    _COLUMNS,
    _draw,
    share_y=False,
    most_columns=2,
    height=_height,
)
