"""What throughput, error rate and backlog have in common: one quantity over time, one line per series.

Place in the flow: between `lines` and the plots of one quantity each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from safetykit_analytics.plots.axes import Entry, Panel, no_data, plain, time_axis
from safetykit_analytics.plots.lines import (
    band_entry,
    bucket_name,
    doubt_entry,
    draw_band,
    draw_line,
    line_handle,
    mark_partial,
    mark_rollouts,
    values,
)
from safetykit_analytics.plots.series import split

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.lines import Track
    from safetykit_analytics.plots.series import Names, Series

# How far above its line a band may push the top of the picture.
_REACH = 3.0


@dataclass(frozen=True)
class Quantity:
    """How to draw one column of a table over time."""

    title: str
    unit: str
    volume: str
    sums: tuple[str, ...]
    track: Callable[[pd.DataFrame], Track]
    axis: Callable[[Axes], None]
    band: str
    band_alpha: float


def draw_over_time(table: pd.DataFrame, ax: Axes, names: Names, quantity: Quantity) -> Panel:
    """Draw lines, bands, roll-outs and marks; say what title and legend are to hold."""
    series, shared = split(table, names, volume=quantity.volume, sums=quantity.sums)
    panel = Panel(title=f"{quantity.title}: {shared}" if shared else quantity.title)
    tracks = [quantity.track(one.rows) for one in series]
    if not frame_axes(table, ax, quantity, tracks, panel):
        return panel
    bucket = bucket_name(table)
    buckets = max(len(line.start) for line in tracks)
    for one, line in zip(series, tracks, strict=True):
        draw_band(ax, line, one.style, alpha=quantity.band_alpha)
        draw_line(ax, line, one.style, buckets=buckets)
        panel.entries.append(Entry(line_handle(one.style), one.label, volume(one.rows, bucket)))
    panel.key += band_entry(tracks, quantity.band, alpha=quantity.band_alpha)
    panel.key += doubt_entry(tracks)
    mark_time(ax, series, tracks, panel)
    panel.top, panel.bottom = _extent(tracks)
    return panel


def frame_axes(
    table: pd.DataFrame, ax: Axes, quantity: Quantity, tracks: Sequence[Track], panel: Panel
) -> bool:
    """Label the axes; say whether there is anything to draw between them."""
    zone = table["bucket_start"].dtype.tz
    plain(ax)
    ax.set_ylabel(quantity.unit)
    if not any(np.isfinite(line.value).any() for line in tracks):
        ax.set_xlabel(f"time ({zone})")
        no_data(ax)
        return False
    ax.set_xlabel(f"time ({zone}), one point per {bucket_name(table)}")
    time_axis(ax, zone)
    quantity.axis(ax)
    panel.detail = f"{np.nansum(values(table, 'processed')):,.0f} decisions"
    return True


def mark_time(ax: Axes, series: Sequence[Series], tracks: Sequence[Track], panel: Panel) -> None:
    """Mark roll-outs and what is not over yet."""
    ax.set_xlim(*_span(tracks))
    shaded = mark_partial(ax, tracks)
    panel.key += [shaded] if shaded else []
    panel.rows_above = mark_rollouts(ax, series)


def volume(rows: pd.DataFrame, bucket: str) -> str:
    """Say how many decisions, and of how many batches at a time, a line rests on."""
    batches = values(rows, "n_batches")
    batches = batches[batches > 0]
    decisions = f"{np.nansum(values(rows, 'processed')):,.0f} decisions"
    if not len(batches):
        return decisions
    few, many = f"{batches.min():,.0f}", f"{batches.max():,.0f}"
    return f"{decisions},\n{few if few == many else f'{few}–{many}'} batches per {bucket}"  # noqa: RUF001


def _span(tracks: Sequence[Track]) -> tuple[float, float]:
    start = min(float(np.nanmin(line.start)) for line in tracks)
    end = max(float(np.nanmax(line.end)) for line in tracks)
    return start - (end - start) * 0.01, end + (end - start) * 0.01


def _extent(tracks: Sequence[Track]) -> tuple[float, float]:
    """Return the largest and smallest value to show: all of the lines, and most of the bands.

    One bucket with three decisions has an interval up to 70 %: it must not flatten all others.
    """
    lines = np.concatenate([line.value for line in tracks])
    bands = np.concatenate([array for line in tracks for array in (line.low, line.high)])
    bands = bands[np.isfinite(bands)]
    highest, lowest = float(np.nanmax(lines)), min(0.0, float(np.nanmin(lines)))
    reach = _REACH * max(highest, -lowest)
    return (
        max(highest, min(reach, bands.max(initial=0.0))),
        min(lowest, max(-reach, bands.min(initial=0.0))),
    )
