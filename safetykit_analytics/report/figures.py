"""Facts → pictures: SVG in data URIs for the page, PNG for e-mail.

The SVG has its text as text, which is small and sharp in print, and neither a date nor a random id.
"""

from __future__ import annotations

import io
import re
import urllib.parse
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from safetykit_analytics import formatting as fmt
from safetykit_analytics.plots import (
    alt_text,
    draw_over_each_other,
    plot_backlog,
    plot_comparison,
    plot_control_chart,
    plot_error_rate,
    plot_throughput,
)
from safetykit_analytics.report.document import Name, Picture, Sentence, named
from safetykit_analytics.report.sections import MOST_DRAWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from safetykit_analytics.report.facts import Facts

_SALT = "safetykit-analytics"
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
# Inches: letters stay legible on a phone, which makes the picture smaller still.
_WIDTH = 5.2
# As wide as the page: where a picture stands alone.
_PAGE = 9.6
_MOST_CONTROL = 4


#: An e-mail is short: the policies with most decisions, and the comparison.
_MOST_IN_MAIL = 2


class Drawn(NamedTuple):
    """A figure, and the words that belong to it."""

    figure: Figure
    alt: Sentence
    caption: Sentence


def draw_figures(facts: Facts) -> dict[str, tuple[Picture, ...]]:
    """Draw the pictures of the page, by the anchor of the section in which they stand."""
    return {
        "weeks": _pictures(_trend(facts)),
        "versions": _pictures(_versions(facts, most=MOST_DRAWN)),
        "comparisons": _pictures(_comparisons(facts)),
        "control": _pictures(_control(facts)),
        "backlog": _pictures(_backlog(facts)),
    }


def draw_for_mail(facts: Facts) -> dict[Picture, bytes]:
    """Draw the few pictures of an e-mail: PNG files by pictures whose sources are content ids."""
    drawn = (*_versions(facts, most=_MOST_IN_MAIL), *_comparisons(facts, width=_WIDTH))
    found = {}
    for number, (figure, alt, caption) in enumerate(drawn, 1):
        target = io.BytesIO()
        figure.savefig(target, format="png", dpi=144, facecolor="white", metadata={"Software": None})
        width, height = (round(inches * 96) for inches in figure.get_size_inches())
        source = f"cid:picture-{number}@safetykit-analytics"
        found[Picture(source, width, height, alt, caption)] = target.getvalue()
    return found


def _versions(facts: Facts, *, most: int) -> Iterator[Drawn]:
    """Draw one picture per policy, those with most decisions first: throughput above, error rate below."""
    first = _with_verdict(facts)
    policies = sorted(_by_volume(facts.versions), key=lambda policy: named(policy) not in first)
    for policy in policies[:most]:
        rows = facts.versions[facts.versions["policy_id"] == policy]
        figure = _figure(_PAGE if len(policies) == 1 else _WIDTH, 4.6)
        draw_over_each_other(rows, *figure.subplots(2, sharex=True))
        words = _versions_in_words(rows, facts)
        head: Sentence = (
            "Throughput and error rate of ",
            named(policy),
            f" by day, {facts.previous_week} and {facts.week}: ",
        )
        yield Drawn(figure, (*head, *words), (named(policy), ": ", *words))


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure whose texts are measured by one renderer, which remembers their sizes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _versions_in_words(rows: pd.DataFrame, facts: Facts) -> Sentence:
    week = rows[rows["bucket_start"] >= pd.Timestamp(facts.start)]
    parts: list[str | Name] = []
    for version, some in week.groupby("policy_version", dropna=False, sort=False):
        processed, error = float(some["processed"].sum()), float(some["error"].sum())
        if processed > 0 and error >= 0:
            parts += [
                ", " if parts else "",
                named(version),
                f" {fmt.percent(error / processed)}",
            ]
    return (*parts, " in this week.") if parts else ("no decision was processed in this week.",)


def _with_verdict(facts: Facts) -> set[Name]:
    """Return the policies of which the report has something to say."""
    found = ["higher", "lower", "higher since", "lower since"]
    return {
        named(policy)
        for table in (facts.change[facts.change["scope"] == "policy"], facts.comparison.table)
        for policy in table["policy_id"][table["verdict"].isin(found).to_numpy(dtype=bool)]
    }


def _trend(facts: Facts) -> Iterator[Drawn]:
    """Draw the weeks before, by policy: throughput and error rate beside each other."""
    weeks = facts.trend["bucket_start"].nunique()
    if weeks < 2 or not (facts.trend["processed"] > 0).any():
        return
    for name, unit, draw in (
        ("Throughput", "decisions per hour", plot_throughput),
        ("Error rate", "error rate", plot_error_rate),
    ):
        figure = _figure(_WIDTH, 3.4)
        ax = figure.subplots()
        draw(facts.trend, ax=ax)
        ax.set_ylabel(unit)
        words = f"{name} by policy, a point a week: {weeks} weeks to {facts.week}."
        yield Drawn(figure, (words,), (words,))


def _comparisons(facts: Facts, *, width: float = _PAGE) -> Iterator[Drawn]:
    """Draw one forest of all differences."""
    table = facts.comparison.table
    if not table["difference"].notna().any():
        return
    rows = min(20, int((table["role"] == "candidate").sum()))
    figure = _figure(width, 1.7 + 0.52 * rows)
    plot_comparison(facts.comparison, ax=figure.subplots())
    yield Drawn(figure, (alt_text(figure),), ("Each version against the baseline of its policy.",))


def _control(facts: Facts) -> Iterator[Drawn]:
    """Draw charts of the policies with points out of control, or of the largest policy."""
    out = facts.outside
    policies = set((out if len(out) else facts.charted)["policy_id"])
    chosen = [policy for policy in _by_volume(facts.control) if policy in policies]
    chosen = chosen[: _MOST_CONTROL if len(out) else 1]
    for policy in chosen:
        rows = facts.control[facts.control["policy_id"] == policy]
        figure = _figure(_PAGE if len(chosen) == 1 else _WIDTH, 3.4)
        ax = figure.subplots()
        plot_control_chart(rows, ax=ax)
        n_out = int(rows["out_of_control"].sum())
        alt: Sentence = (
            "Control chart of the error rate of ",
            named(policy),
            f", a point a day, two weeks: {fmt.plural(n_out, 'point')} out of control.",
        )
        yield Drawn(figure, alt, (named(policy), ": a point a day, two weeks."))


def _backlog(facts: Facts) -> Iterator[Drawn]:
    if not (facts.backlog["pending"] > 0).any():
        return
    figure = _figure(_PAGE, 3.6)
    ax = figure.subplots()
    plot_backlog(facts.backlog, ax=ax)
    alt: Sentence = (
        f"Pending decisions of open batches by policy over {facts.week}: "
        f"{fmt.number(float(facts.open['pending'].sum()))} at its end.",
    )
    yield Drawn(figure, alt, ("Pending decisions of open batches by policy.",))


def _by_volume(table: pd.DataFrame) -> list[str]:
    """Return the policies of a table, the one with most decisions first, without those that have none."""
    processed = table.groupby("policy_id", sort=False)["processed"]
    volumes = processed.sum()[processed.any()]
    return list(volumes.sort_values(ascending=False, kind="stable").index)


def _pictures(drawn: Iterable[Drawn]) -> tuple[Picture, ...]:
    pictures = []
    for figure, alt, caption in drawn:
        width, height = (round(inches * 96) for inches in figure.get_size_inches())
        pictures.append(Picture(_svg_uri(figure), width, height, alt, caption))
    return tuple(pictures)


def _svg_uri(figure: Figure) -> str:
    target = io.BytesIO()
    for patch in (figure.patch, *(ax.patch for ax in figure.axes)):
        patch.set_visible(False)
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    # The salt makes the ids of clip paths and markers depend on the drawing alone. `Figure.savefig`
    # would draw twice, the first time for the layout alone, which every drawing makes.
    with mpl.rc_context({"svg.hashsalt": _SALT, "svg.fonttype": "none"}):
        canvas: Any = FigureCanvasSVG(figure)  # has no annotations
        canvas.print_svg(target, metadata=nothing)
    # Only characters that a data URI cannot hold are escaped: a third smaller than base64.
    return "data:image/svg+xml," + urllib.parse.quote(
        slim(target.getvalue()), safe=" !$&'()*+,-./:;=?@[]^_`{|}~"
    )


def slim(svg: bytes) -> str:
    """Remove the invisible parts of matplotlib's SVG: ids of groups, repeated fonts, digits.

    Only attributes are touched, never text, which may be anyone's.
    """
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    root = ET.fromstring(svg)  # noqa: S314 -- our own drawing, made a moment ago
    for element in root.iter():
        _slim_element(element, root)
    return ET.tostring(root, encoding="unicode")


def _slim_element(element: ET.Element, root: ET.Element) -> None:
    if element.tag == f"{{{_SVG}}}g":
        element.attrib.pop("id", None)
    for name in ("d", "x", "y", "transform"):
        if name in element.attrib:
            element.set(name, _rounded(element.get(name, "")))
    style = element.get("style", "")
    if font := re.search(r"font-family: ([^;]*);? ?", style):
        root.set("font-family", font[1])
        element.set("style", style.replace(font[0], ""))
    if element.tag != f"{{{_SVG}}}text":
        element.text = (element.text or "").strip() or None
    element.tail = None


def _rounded(numbers: str) -> str:
    """Cut coordinates to hundredths of a point, and line breaks to spaces."""
    short = re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), numbers)
    return " ".join(short.split())
