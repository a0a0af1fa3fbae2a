"""A picture in words, for those who cannot see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from safetykit_analytics.wording import number, percent

if TYPE_CHECKING:
    from collections.abc import Iterator


def alt_text(figure: Figure | Axes) -> str:
    """Return what a picture shows, in words, for the ``alt`` attribute of an image.

    Parameters
    ----------
    figure : matplotlib Figure or Axes
        What a ``plot_`` function returned, or a figure with such plots.

    Returns
    -------
    str
        One line. Of each panel: its title, the time from first to last tick label of the axis, and of each
        line the lowest, the highest and the last value; or of each row the words that belong to it, whether
        or not there was room for them.

    Raises
    ------
    TypeError
        Neither a Figure nor an Axes.

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> store = ska.SnapshotStore("snapshots")
    >>> axes = ska.plot_error_rate(ska.rates(store, freq="1D"))
    >>> words = ska.alt_text(axes)
    """
    if isinstance(figure, Axes):
        return " ".join(_sentences(figure))
    if not isinstance(figure, Figure):
        raise TypeError(f"figure: expected a matplotlib Figure or Axes, found {type(figure).__name__}")
    head = [_one_line(figure.get_suptitle())] if figure.get_suptitle() else []
    said = [f"{part}." for part in head]
    for ax in figure.axes:
        said += _sentences(ax)
    return " ".join(said)


def _sentences(ax: Axes) -> Iterator[str]:
    """Yield the sentences on one panel."""
    root: Any = ax.get_figure(root=True)
    title = _one_line(ax.get_title(loc="left"))
    if any(text.get_text() == "no data" for text in ax.texts):
        yield f"{title}: no data."
        return
    names = [_one_line(text.get_text()) for text in ax.get_yticklabels()]
    words = {
        int(text.get_position()[1]): _one_line(text.get_text(), "; ")
        for text in ax.texts
        if text.get_transform() == ax.get_yaxis_transform()
    }
    unit = _one_line(ax.get_ylabel() or root.get_supylabel())
    across = _one_line(ax.get_xlabel() or root.get_supxlabel())
    yield f"{title}. {'; '.join(part for part in (unit, across) if part)}."
    if words:
        yield " ".join(f"{name}: {words[place]}." for place, name in enumerate(names) if place in words)
        return
    is_share = str(ax.yaxis.get_major_formatter()(0.5)).endswith("%")
    write = percent if is_share else number
    lines: dict[str, list[Any]] = {}
    for line in ax.get_lines():
        if not str(line.get_label()).startswith("_child"):
            lines.setdefault(str(line.get_label()), []).append(np.asarray(line.get_ydata(), dtype=float))
    for name, arrays in lines.items():
        values = np.concatenate(arrays)
        values = values[np.isfinite(values)]
        if name == "out of control":
            yield f"{len(values):,} out of control."
        elif len(values):
            low, high, last = (write(float(value)) for value in (values.min(), values.max(), values[-1]))
            yield f"{name}: {low} to {high}, at the end {last}."
    if not lines and (legend := ax.get_legend()):
        yield "; ".join(_one_line(text.get_text()) for text in legend.get_texts()) + "."


def _one_line(text: str, separator: str = " ") -> str:
    return separator.join(part.strip() for part in text.split("\n") if part.strip())
