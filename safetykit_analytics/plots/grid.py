"""Small multiples: any plot of this package, once per policy or version, on axes that can be compared."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from safetykit_analytics.errors import UnknownName
from safetykit_analytics.formatting import NONE
from safetykit_analytics.labels import natural_key
from safetykit_analytics.plots.axes import Picture, letters_in, room, set_text_size
from safetykit_analytics.plots.comparison import COMPARISON, plot_comparison
from safetykit_analytics.plots.completion_time import COMPLETION_TIME, plot_completion_time
from safetykit_analytics.plots.control_chart import CONTROL_CHART, plot_control_chart
from safetykit_analytics.plots.over_time import (
    BACKLOG,
    ERROR_RATE,
    STACKED,
    THROUGHPUT,
    plot_backlog,
    plot_error_rate,
    plot_throughput,
)
from safetykit_analytics.plots.panel import (
    Entry,
    Panel,
    Plot,
    draw_legend,
    draw_marks,
    draw_shared_legend,
    grow,
    left_of,
    mark_cuts,
    say_no_data,
    set_limits,
    write_title,
)
from safetykit_analytics.plots.series import POLICY, VERSION, check_columns, groups_of, label_of, names_in
from safetykit_analytics.plots.text import put, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
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


def plot_grid(
    plot: Callable[..., Axes], table: Any, *, by: str | Sequence[str] = POLICY, sharey: bool = True
) -> Figure:
    """Draw one panel per policy, version or own column, with shared axes and one legend.

    Parameters
    ----------
    plot : callable
        A ``plot_`` function of this library; ``functools.partial(plot_throughput, stacked=True)`` for stacks.
    table : DataFrame or VersionComparison
        What that function draws.
    by : str or sequence of str
        The columns that tell the panels apart: those by which the table was made. Natural order, none last.
    sharey : bool
        One y axis for all panels, which can be compared; else each has its own, which shows more of a small
        one.

    Returns
    -------
    matplotlib Figure
        Unknown to pyplot; ``figure.savefig`` writes it, and a notebook shows it where a cell ends in it.

    Raises
    ------
    TypeError
        ``plot`` is not one of this library's.
    UnknownName
        The table was not made by a column of ``by``, or lacks one that the plot reads.

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
    names = names_in(table)
    columns = [by] if isinstance(by, str) else list(by)
    for column in columns:
        if column not in names:
            raise UnknownName("column", column, list(names))
    groups = groups_of(table, columns)
    inner = {column: shown for column, shown in names.items() if column not in columns}
    # Panels by all columns: each series has the colour that it has elsewhere, and its name is the title.
    is_split_up = not inner
    inner = inner or {columns[-1]: names[columns[-1]]}
    figure, axes = _lay_out(kind, list(groups.values()) or [table], sharey=sharey)
    panels = [kind.draw(rows, ax, inner) for rows, ax in zip(groups.values(), axes, strict=False)]
    if not panels:
        title = kind.draw(table, axes[0], names).title
        write_title(axes[0], title, "", slot=_slot(axes[0]))
        say_no_data(axes[0])
        return figure
    if is_split_up:
        for panel in panels:
            panel.entries = [entry for entry in panel.entries if entry.is_key]
            panel.title = panel.title.split(": ")[0]
    _share(axes, panels, share_x=kind.share_y, share_y=kind.share_y and sharey)
    _share_labels(figure, axes)
    _write_titles(
        figure,
        axes,
        panels,
        [label_of(key, {column: names[column] for column in columns}, range(len(columns))) for key in groups],
    )
    for ax, panel in zip(axes, panels, strict=True):
        mark_cuts(ax, panel)
        if panel.is_empty:
            say_no_data(ax)
            if not kind.share_y:
                ax.tick_params(left=False, labelleft=False)
    _legend(figure, axes, panels)
    titles = {panel.title for panel in panels}
    title = titles.pop() if len(titles) == 1 else panels[0].shared_title or panels[0].title
    _write_headline(figure, f"{title} by {' and '.join(_BY.get(column, column) for column in columns)}")
    return figure


def _write_titles(figure: Figure, axes: list[Axes], panels: list[Panel], names: list[str]) -> None:
    titles = {panel.title for panel in panels}
    beyond = 0
    for ax, name, panel in zip(axes, names, panels, strict=True):
        rows_above = draw_marks(ax, panel.marks)
        title = f"{name}, {panel.own_title}" if panel.own_title and len(titles) > 1 else name
        lines = write_title(ax, title, _detail(panel), slot=_slot(ax), rows_above=rows_above, size=1.0)
        beyond = max(beyond, lines)
    grow(figure, beyond * math.ceil(len(axes) / _columns(axes)))


def _kind(plot: Callable[..., Axes]) -> Plot:
    """Return the kind of plot that a `plot_` function draws."""
    if isinstance(plot, functools.partial):
        if plot.func is plot_throughput and not plot.args and plot.keywords.keys() <= {"stacked"}:
            return STACKED if plot.keywords.get("stacked") else THROUGHPUT
    elif kind := next((kind for known, kind in _PLOTS.items() if known is plot), None):
        return kind
    known = ", ".join(known.__name__ for known in _PLOTS)
    found = getattr(plot, "__name__", type(plot).__name__)
    raise TypeError(f"plot: expected one of {known}, as the first argument; found {found}")


def _lay_out(kind: Plot, tables: list[pd.DataFrame], *, sharey: bool) -> tuple[Figure, list[Axes]]:
    """Return a figure with one Axes per table, as square as screens are."""
    count = len(tables)
    columns = min(kind.most_columns, count, max(1, math.ceil(math.sqrt(count * 0.8))))
    rows = math.ceil(count / columns)
    if kind.share_y:
        width, height = {1: 7.2, 2: 4.6, 3: 3.8}.get(columns, 3.2), 2.9 if count <= 6 else 2.2
        # Each panel has tick labels of its own.
        width += 0.0 if sharey else 0.4
    else:
        width, height = 7.0, max(kind.height(table) for table in tables) - 0.4
    figure = Picture(figsize=(width * columns + _LEGEND_INCHES, height * rows + 0.7), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[count:]:
        ax.remove()
    for ax in axes[:count]:
        set_text_size(ax, is_ours=True)
        # Limits are set for all panels at once; to look for them after each line takes most of the time.
        ax.set_autoscale_on(False)
    return figure, axes[:count]


def _share(axes: list[Axes], panels: list[Panel], *, share_x: bool, share_y: bool) -> None:
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
    set_limits(leader, panels if share_y else [replace(panel, extent=None) for panel in panels])
    if share_x and not share_y:
        for ax, panel in zip(axes, panels, strict=True):
            set_limits(ax, [replace(panel, span=None)])


def _share_labels(figure: Figure, axes: list[Axes]) -> None:
    """Write the labels of the axes once for all panels."""
    for axis, write in (("xaxis", figure.supxlabel), ("yaxis", figure.supylabel)):
        labels = [getattr(ax, axis).label for ax in axes]
        # A panel without data knows less about its axis than the others.
        longest = max((label.get_text() for label in labels), key=len)
        for label in labels:
            label.set_text("")
        if longest:
            put(write("", size="medium"), longest)


def _write_headline(figure: Figure, title: str) -> None:
    """Write a title over all panels, beside the legend."""
    headline = figure.suptitle("", x=0.01, ha="left", weight="bold")
    lines = wrap(title, width=letters_in(figure.get_figwidth() - _LEGEND_INCHES, headline))
    put(headline, lines)
    grow(figure, lines.count("\n"))


def _detail(panel: Panel) -> str:
    others = [entry.label for entry in panel.entries if entry.is_other]
    return "; ".join([panel.detail, *others]) if others else panel.detail


def _slot(ax: Axes) -> tuple[float, float]:
    """Return the room of a panel's words: the legend takes its part of the figure."""
    width, height = room(ax)
    return width - _LEGEND_INCHES / _columns([ax]) - left_of(ax), height


def _legend(figure: Figure, axes: list[Axes], panels: list[Panel]) -> None:
    """Draw one legend for all panels; one each where names and looks do not match one to one."""
    shared: dict[str, Entry] = {}
    looks: dict[str, set[tuple[str, ...]]] = {}
    for entry in (entry for panel in panels for entry in panel.entries if not entry.is_key):
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
            own = [replace(entry, detail="") for entry in panel.entries if not entry.is_key]
            draw_legend(ax, own, slot=(99.0, room(ax)[1]), below=panel.words_right)
        shared = {}
    key = {entry.label: entry for panel in panels for entry in panel.entries if entry.is_key}
    draw_shared_legend(figure, [*sorted(shared.values(), key=_place), *key.values()])


def _place(entry: Entry) -> tuple[Any, ...]:
    """Return where a name stands in a legend: natural order, no name after all names, "other" last."""
    return entry.is_other, natural_key(None if entry.label == NONE else entry.label)


def _columns(axes: list[Axes]) -> int:
    spec = axes[0].get_subplotspec()
    return 1 if spec is None else spec.get_gridspec().ncols


def _look(entry: Entry) -> tuple[str, ...]:
    handle: Any = entry.handle
    if isinstance(handle, Line2D):
        return str(handle.get_color()), str(handle.get_marker()), str(handle.get_linestyle())
    return (str(handle.get_facecolor()),)
