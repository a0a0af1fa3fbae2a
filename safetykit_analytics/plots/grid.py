"""Small multiples: any plot of this package, once per policy or version, on axes that can be compared.

Place in the flow: above all other plots.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.lines import Line2D

from safetykit_analytics.errors import UnknownName
from safetykit_analytics.labels import natural_key
from safetykit_analytics.plots.axes import Picture, no_data
from safetykit_analytics.plots.backlog import BACKLOG, plot_backlog
from safetykit_analytics.plots.comparison import COMPARISON, plot_comparison
from safetykit_analytics.plots.completion_time import COMPLETION_TIME, plot_completion_time
from safetykit_analytics.plots.control_chart import CONTROL_CHART, plot_control_chart
from safetykit_analytics.plots.error_rate import ERROR_RATE, plot_error_rate
from safetykit_analytics.plots.legend import Entry, draw_legend, draw_shared_legend
from safetykit_analytics.plots.panel import (
    Panel,
    Plot,
    draw_marks,
    grow,
    letters_in,
    set_limits,
    write_title,
)
from safetykit_analytics.plots.series import POLICY, VERSION, check_columns, names_in, shown_name
from safetykit_analytics.plots.text import put, wrap
from safetykit_analytics.plots.throughput import STACKED, THROUGHPUT, plot_throughput
from safetykit_analytics.wording import NONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PLOTS: dict[Callable[..., Axes], Plot] = {
    plot_throughput: THROUGHPUT,
    plot_error_rate: ERROR_RATE,
    plot_backlog: BACKLOG,
    plot_control_chart: CONTROL_CHART,
    plot_completion_time: COMPLETION_TIME,
    plot_comparison: COMPARISON,
}
_BY = {POLICY: "policy", VERSION: "version"}
_LEGEND_INCHES = 2.4
_OWN_LEGEND_INCHES = 1.6
_MOST_SHARED = 14


def plot_grid(plot: Callable[..., Axes], table: Any, *, by: str = POLICY) -> Figure:
    """Draw one panel per policy (or version) with shared axes and one legend.

    Parameters
    ----------
    plot : callable
        A ``plot_`` function of this library; ``functools.partial(plot_throughput, stacked=True)`` for stacks.
    table : DataFrame or VersionComparison
        What that function draws.
    by : {"policy_id", "policy_version"}
        What tells the panels apart; natural order, none last.

    Returns
    -------
    matplotlib Figure
        Unknown to pyplot; ``figure.savefig`` writes it, a notebook shows it.

    Raises
    ------
    TypeError
        ``plot`` is not one of this library's.
    UnknownName
        The table has no column ``by``, or lacks one that the plot reads.

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> store = ska.SnapshotStore("snapshots")
    >>> rates = ska.rates(store, freq="1D")
    >>> figure = ska.plot_grid(ska.plot_error_rate, rates, by="policy_id")
    >>> figure.savefig("error-rates.png")
    """
    kind = _kind(plot)
    table = check_columns(getattr(table, "table", table), kind.columns, what=kind.what)
    if by not in {POLICY, VERSION} or by not in table:
        raise UnknownName("column", by, [name for name in (POLICY, VERSION) if name in table])
    names = names_in(table)
    groups: dict[str | None, pd.DataFrame] = {
        None if pd.isna(name) else str(name): rows.drop(columns=by)
        for name, rows in table.groupby(by, dropna=False, sort=False, observed=True)
    }
    ordered = sorted(groups, key=natural_key)
    figure, axes = _lay_out(kind, [groups[name] for name in ordered] or [table])
    if not ordered:
        panels = [kind.draw(table.drop(columns=by), axes[0], names)]
        write_title(axes[0], panels[0].title, "")
        no_data(axes[0])
        return figure
    panels = [kind.draw(groups[name], ax, names) for name, ax in zip(ordered, axes, strict=True)]
    _share(axes, panels, share_y=kind.share_y)
    _share_labels(figure, axes)
    titles = {panel.title for panel in panels}
    beyond = 0
    for ax, name, panel in zip(axes, ordered, panels, strict=True):
        rows_above = draw_marks(ax, panel.marks)
        title = shown_name(name)
        if panel.own_title and len(titles) > 1:
            title += f", {panel.own_title}"
        lines = write_title(ax, title, _detail(panel), rows_above=rows_above, size="medium")
        beyond = max(beyond, lines)
        if panel.is_empty:
            no_data(ax)
            if not kind.share_y:
                ax.tick_params(left=False, labelleft=False)
    grow(figure, beyond * math.ceil(len(axes) / _columns(axes)))
    _legend(figure, axes, panels)
    title = titles.pop() if len(titles) == 1 else panels[0].shared_title or panels[0].title
    _write_headline(figure, f"{title} by {_BY[by]}")
    return figure


def _kind(plot: Callable[..., Axes]) -> Plot:
    """Find out what to draw: one of our functions, or a stack."""
    if isinstance(plot, functools.partial):
        if plot.func is plot_throughput and not plot.args and plot.keywords.keys() <= {"stacked"}:
            return STACKED if plot.keywords.get("stacked") else THROUGHPUT
    elif kind := next((kind for known, kind in _PLOTS.items() if known is plot), None):
        return kind
    known = ", ".join(known.__name__ for known in _PLOTS)
    found = getattr(plot, "__name__", type(plot).__name__)
    raise TypeError(f"plot: expected one of {known}, as the first argument; found {found}")


def _lay_out(kind: Plot, tables: list[pd.DataFrame]) -> tuple[Figure, list[Axes]]:
    """Make a figure with one Axes per table, as square as screens are."""
    count = len(tables)
    columns = min(kind.most_columns, count, max(1, math.ceil(math.sqrt(count * 0.8))))
    rows = math.ceil(count / columns)
    if kind.share_y:
        width, height = {1: 7.2, 2: 4.6, 3: 3.8}.get(columns, 3.2), 2.9 if count <= 6 else 2.2
    else:
        width, height = 7.0, max(kind.height(table) for table in tables) - 0.4
    figure = Picture(figsize=(width * columns + _LEGEND_INCHES, height * rows + 0.7), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[count:]:
        ax.remove()
    for ax in axes[:count]:
        # Limits are set for all panels at once; to look for them after each line takes most of the time.
        ax.set_autoscale_on(False)
    return figure, axes[:count]


def _share(axes: list[Axes], panels: list[Panel], *, share_y: bool) -> None:
    """Join the axes of all panels, after drawing: joined ones tell each other of every change."""
    leader = next((ax for ax, panel in zip(axes, panels, strict=True) if not panel.is_empty), axes[0])
    columns = _columns(axes)
    for place, ax in enumerate(axes):
        if ax is not leader:
            ax.sharex(leader)
        if share_y and ax is not leader:
            ax.sharey(leader)
        if share_y and place % columns:
            ax.tick_params(labelleft=False)
        # The panel above an empty place is the lowest of its column.
        if place + columns < len(axes):
            ax.tick_params(labelbottom=False)
            ax.xaxis.offsetText.set_visible(False)
    set_limits(leader, panels if share_y else [replace(panel, extent=None) for panel in panels])


def _share_labels(figure: Figure, axes: list[Axes]) -> None:
    """Say once what the axes mean."""
    for axis, write in (("xaxis", figure.supxlabel), ("yaxis", figure.supylabel)):
        labels = [getattr(ax, axis).label for ax in axes]
        # A panel without data knows less about its axis than the others.
        longest = max((label.get_text() for label in labels), key=len)
        for label in labels:
            label.set_text("")
        if longest:
            put(write("", size="medium"), longest)


def _write_headline(figure: Figure, title: str) -> None:
    """Put a title over all panels, beside the legend."""
    headline = figure.suptitle("", x=0.01, ha="left", weight="bold")
    lines = wrap(title, width=letters_in(figure.get_figwidth() - _LEGEND_INCHES, headline))
    put(headline, lines)
    grow(figure, lines.count("\n"))


def _detail(panel: Panel) -> str:
    others = [entry.label for entry in panel.entries if entry.is_other]
    return "; ".join([panel.detail, *others]) if others else panel.detail


def _legend(figure: Figure, axes: list[Axes], panels: list[Panel]) -> None:
    """Make one legend for all panels; one each where names and looks do not match one to one."""
    shared: dict[str, Entry] = {}
    looks: dict[str, set[tuple[str, ...]]] = {}
    for entry in (entry for panel in panels for entry in panel.entries):
        label = "other" if entry.is_other else entry.label
        shared.setdefault(label, replace(entry, label=label, detail=""))
        looks.setdefault(label, set()).add(_look(entry))
    distinct = {look for seen in looks.values() for look in seen}
    if (
        len(shared) > _MOST_SHARED
        or len(distinct) != len(looks)
        or any(len(seen) > 1 for seen in looks.values())
    ):
        figure.set_figwidth(figure.get_figwidth() + _OWN_LEGEND_INCHES * _columns(axes))
        for ax, panel in zip(axes, panels, strict=True):
            draw_legend(ax, [replace(entry, detail="") for entry in panel.entries], below=panel.words_right)
        shared = {}
    key = {entry.label: entry for panel in panels for entry in panel.key}
    ordered = sorted(shared.values(), key=_place)
    entries = [*ordered, *key.values()]
    draw_shared_legend(figure, entries)


def _place(entry: Entry) -> tuple[Any, ...]:
    """Sort a legend's names as everywhere: naturally, no name after all names, what is left over last."""
    return entry.is_other, natural_key(None if entry.label == NONE else entry.label)


def _columns(axes: list[Axes]) -> int:
    spec = axes[0].get_subplotspec()
    return 1 if spec is None else spec.get_gridspec().ncols


def _look(entry: Entry) -> tuple[str, ...]:
    handle: Any = entry.handle
    if isinstance(handle, Line2D):
        return str(handle.get_color()), str(handle.get_marker()), str(handle.get_linestyle())
    return (str(handle.get_facecolor()),)
