"""The drawn part of one picture of each kind, compared with one that a person has looked at.

Words and what makes room for them differ between machines and releases of matplotlib, so they are left out
(the other tests read them) and the axes stand at fixed places; what is left is compared by blocks of pixels.
After a wanted change, `SKA_RENEW_PICTURES=1 pytest tests/plots/test_pictures.py` draws them again: look
at them.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.legend import Legend
from matplotlib.text import Text
from PIL import Image

import safetykit_analytics as ska
from tests.plots.helpers import (
    backlog_table,
    comparison_table,
    completion_table,
    control_table,
    empty_rates,
    rates_table,
)

PICTURES = Path(__file__).parent / "pictures"
TWO = [("spam", "v7"), ("spam", "v8")]
MANY = [(policy, version) for policy in ("spam", "scam", None) for version in ("v1", "v2")]
BLOCK = 5
# Root mean square over the blocks, of 255: 0.1 between matplotlib 3.9 and 3.11, above 5 if anything is gone.
TOLERANCE = 1.5


def doubtful():
    table = rates_table(TWO, first={("spam", "v8"): 6}, partial=True)
    table.loc[[3, 9], "coverage"] = 0.3
    return table.drop(index=[5])


DRAW = {
    "throughput": lambda: ska.plot_throughput(doubtful()),
    "throughput_stacked": lambda: ska.plot_throughput(rates_table(MANY, partial=True), stacked=True),
    "throughput_pooled": lambda: ska.plot_throughput(rates_table(MANY, buckets=900, freq="h")),
    "error_rate": lambda: ska.plot_error_rate(doubtful()),
    "error_rate_other": lambda: ska.plot_error_rate(rates_table([("spam", f"v{k}") for k in range(14)])),
    "backlog": lambda: ska.plot_backlog(backlog_table(TWO, buckets=40, partial=True)),
    "control_chart": lambda: ska.plot_control_chart(
        control_table(TWO, buckets=40, first={("spam", "v8"): 22}, alarms=[12, 45])
    ),
    "completion_time": lambda: ska.plot_completion_time(
        completion_table(
            [
                ("spam", "v7", 41, 0, (2.0, 2.5, 5.0, 6.0)),
                ("spam", "v8", 18, 3, (3.1, 4.0, 6.6, None)),
                ("spam", None, 5, 4, (1.5, None, None, None)),
            ]
        )
    ),
    "comparison": lambda: ska.plot_comparison(
        comparison_table(
            "v7",
            [
                ("v8", 14, 22_000, 0.012, 0.004, 0.020, "higher"),
                ("v9", 11, 18_000, -0.001, -0.007, 0.005, "no difference found"),
                ("v10", 2, 600, None, None, None, "not enough batches"),
                ("v11", 3, 900, 0.004, -0.2, 0.22, "not enough batches"),
            ],
        )
    ),
    "grid": lambda: ska.plot_grid(ska.plot_error_rate, rates_table(MANY, first={MANY[1]: 5}, partial=True)),
    "empty": lambda: ska.plot_error_rate(empty_rates()),
}


def pixels(figure):
    """Draw a figure without its words, as an array of bytes."""
    figure.set_layout_engine("none")
    figure.set_size_inches(6.0, 4.0)
    figure.set_dpi(60)
    for ax in figure.axes:
        ax.set_position(ax.get_subplotspec().get_position(figure))
    for words in figure.findobj(lambda artist: isinstance(artist, Text | Legend)):
        words.set_visible(False)
    FigureCanvasAgg(figure).draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def apart(one, other):
    """Return how far two pictures differ: root mean square over blocks, of 255."""
    height, width = (min(a, b) // BLOCK * BLOCK for a, b in zip(one.shape[:2], other.shape[:2], strict=True))
    blocks = [
        image[:height, :width]
        .astype(float)
        .reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3)
        .mean((1, 3))
        for image in (one, other)
    ]
    return float(np.sqrt(np.mean((blocks[0] - blocks[1]) ** 2)))


def drawn(name):
    made = DRAW[name]()
    return made if name == "grid" else made.figure


@pytest.mark.parametrize("name", DRAW)
def test_the_picture_is_the_one_that_was_looked_at(name):
    found = pixels(drawn(name))
    path = PICTURES / f"{name}.png"
    if os.environ.get("SKA_RENEW_PICTURES"):
        PICTURES.mkdir(exist_ok=True)
        Image.fromarray(found).save(path, optimize=True)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert apart(found, expected) < TOLERANCE


@pytest.mark.parametrize("missing", ["collections", "lines", "patches"])
def test_a_picture_that_lacks_something_is_told_apart(missing):
    figure = drawn("throughput")
    for artist in getattr(figure.axes[0], missing):
        artist.set_visible(False)
    assert apart(pixels(drawn("throughput")), pixels(figure)) > 2 * TOLERANCE
