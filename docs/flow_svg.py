"""Draw docs/flow.svg, the picture of the flow: `python docs/flow_svg.py`."""

import pathlib
from xml.sax.saxutils import escape

BOX_WIDTH, BOX_HEIGHT = 128, 58
INK, PAPER, EDGE = "#1f2937", "#ffffff", "#cbd5e1"
OUTSIDE, DATA, STAGE = "#f1f5f9", "#fef3c7", "#dbeafe"

# name: left, top, fill, title, line below
BOXES = {
    "ids": (20, 40, OUTSIDE, "batch ids", "from your system"),
    "api": (190, 150, OUTSIDE, "SafetyKit API", "or the simulator"),
    "fetch": (190, 40, STAGE, "fetch", "HTTP, retries"),
    "frame": (360, 40, DATA, "observations", "a DataFrame"),
    "store": (360, 150, DATA, "snapshots", "Parquet by day"),
    "flow": (530, 40, STAGE, "flow", "work over time"),
    "rates": (700, 40, STAGE, "rates", "tidy tables"),
    "compare": (870, 0, STAGE, "compare", "is v8 worse?"),
    "plots": (870, 75, STAGE, "plots", "one Axes each"),
    "report": (870, 150, STAGE, "report", "Monday's page"),
    "executor": (530, 150, OUTSIDE, "executor", "processes, Dask"),
}
ARROWS = [
    ("ids", "fetch"), ("fetch", "frame"), ("frame", "flow"), ("flow", "rates"), ("rates", "compare"),
    ("rates", "plots"), ("rates", "report"), ("api", "fetch"), ("frame", "store"), ("store", "flow"),
    ("executor", "flow"),
]  # fmt: skip


def _ends(start: str, end: str) -> tuple[float, float, float, float]:
    """Where an arrow leaves one box and meets the other."""
    (left, top, *_), (to_left, to_top, *_) = BOXES[start], BOXES[end]
    if left == to_left:
        down = to_top > top
        return (
            left + BOX_WIDTH / 2,
            top + BOX_HEIGHT * down,
            to_left + BOX_WIDTH / 2,
            to_top + BOX_HEIGHT * (not down),
        )
    if (
        abs(to_top - top) > BOX_HEIGHT
        and to_left - left == BOXES["frame"][0] - BOXES["fetch"][0]
        and to_top < top
    ):
        return left + BOX_WIDTH, top + 12, to_left + 24, to_top + BOX_HEIGHT
    return left + BOX_WIDTH, top + BOX_HEIGHT / 2, to_left, to_top + BOX_HEIGHT / 2


def _text(x: float, y: float, size: int, text: str, *, weight: int = 400) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="middle" font-size="{size}" font-weight="{weight}" '
        f'fill="{INK}">{escape(text)}</text>'
    )


def _card(x: float, y: float, width: float, height: float, fill: str, *, radius: int) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" '
        f'fill="{fill}" stroke="{EDGE}"/>'
    )


def draw() -> str:
    """Give the picture as SVG text, on a card of its own so that it can be read on a dark page too."""
    width, height, margin = 1018, 228, 20
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {-margin} {width} {height + 2 * margin}" '
            f'font-family="system-ui, sans-serif" role="img">'
        ),
        "<title>ids → fetch → observations → snapshots → flow → rates → compare, plots, report</title>",
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">',
        f'<path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>',
        _card(1, 1 - margin, width - 2, height + 2 * margin - 2, PAPER, radius=12),
    ]
    for start, end in ARROWS:
        x1, y1, x2, y2 = _ends(start, end)
        lines.append(
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" '
            f'stroke="{INK}" stroke-width="1.4" marker-end="url(#tip)"/>'
        )
    for left, top, fill, title, below in BOXES.values():
        middle = left + BOX_WIDTH / 2
        lines += [
            _card(left, top, BOX_WIDTH, BOX_HEIGHT, fill, radius=8),
            _text(middle, top + 25, 15, title, weight=600),
            _text(middle, top + 44, 12, below),
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    pathlib.Path(__file__).with_name("flow.svg").write_text(draw(), encoding="utf-8")
