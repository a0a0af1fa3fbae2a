"""The page in a real browser: quiet, self-contained, legible at every width, accessible, printable."""

import dataclasses
import pathlib
import re
import shutil
import subprocess

import pytest

from safetykit_analytics.report import weekly_report
from safetykit_analytics.report.document import Bullets, Name, Section, Table, plain
from safetykit_analytics.report.rendering import render_html
from tests.report.helpers import WEEK, nothing

RULES = (pathlib.Path(__file__).parent / "accessibility.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def addresses(report, hostile, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    reports = {
        "ordinary": report,
        "hostile": hostile,
        "empty": weekly_report(nothing(), week=WEEK),
    }
    for name, one in reports.items():
        one.save(folder / f"{name}.html")
    return {name: (folder / f"{name}.html").as_uri() for name in reports}


# The names change the layout, at every width; the colours are the same for all of them.
LOOKS = {
    "wide": (1280, False, ("ordinary", "hostile", "empty")),
    "phone": (400, False, ("ordinary", "hostile")),
    "dark": (1280, True, ("ordinary",)),
}


@pytest.fixture(
    scope="module", params=[(look, kind) for look, (*_, kinds) in LOOKS.items() for kind in kinds]
)
def look_and_kind(request):
    return request.param


@pytest.fixture(scope="module")
def kind(look_and_kind):
    return look_and_kind[1]


@pytest.fixture(scope="module")
def tabs(browser, addresses):
    """Each page in a tab, which the tests resize, as a tab takes longer to open than to look different."""
    return {kind: browser.open(address) for kind, address in addresses.items()}


@pytest.fixture
def page(tabs, look_and_kind):
    look, kind = look_and_kind
    width, dark, _ = LOOKS[look]
    tabs[kind].look(width=width, dark=dark)
    return tabs[kind]


def test_the_page_asks_for_nothing_and_complains_of_nothing(page, addresses, kind):
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("data:")] == [addresses[kind]]


def test_every_picture_decodes(page, kind):
    pictures = page.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth])")
    assert all(complete and width > 0 for complete, width in pictures)
    assert bool(pictures) == (kind != "empty")


def test_nothing_scrolls_sideways(page):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_no_serious_accessibility_fault_by_the_rules_kept_here(page):
    assert page.evaluate(RULES) == []


def test_no_serious_accessibility_fault_by_axe(page, axe):
    page.evaluate(f"{axe};0")
    found = page.evaluate("axe.run().then(run => run.violations.map(v => [v.impact, v.id, v.nodes[0].html]))")
    assert [fault for fault in found if fault[0] in {"serious", "critical"}] == []


def test_the_rules_kept_here_find_the_faults_that_they_name(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        "<!DOCTYPE html><title> </title><div><h1>a</h1><h3 style='color:#aaa;background:#fff'>b</h3>"
        "<img src='data:,'><table><tr><td>1</table><a href='#x'></a></div>"
    )
    found = "\n".join(browser.open(path.as_uri()).evaluate(RULES))
    for fault in (
        "no language",
        "no title",
        "of main",
        "jumps from 1 to 3",
        "image without",
        "contrast of",
        "to nowhere",
        "row without",
        "table without a caption",
        "table without headers",
    ):
        assert fault in found


def test_the_style_sheet_is_applied_under_the_pages_own_policy(page):
    assert page.evaluate("getComputedStyle(document.querySelector('.headlines')).paddingLeft") != "40px"


def test_a_page_that_was_tampered_with_cannot_run_or_fetch(browser, addresses, tmp_path):
    page = pathlib.Path(addresses["ordinary"].removeprefix("file://")).read_text(encoding="utf-8")
    run = "document.title='run'"
    evil = f'<script>{run}</script><img src="http://127.0.0.1:1/x.png" onerror="{run}">'
    (tmp_path / "evil.html").write_text(page.replace("<main>", f"<main>{evil}"), encoding="utf-8")
    opened = browser.open((tmp_path / "evil.html").as_uri())
    assert opened.evaluate("document.title") != "run"
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)


def test_the_dark_page_is_dark_and_the_light_one_light(tabs):
    def lightness(dark):
        tabs["ordinary"].look(dark=dark)
        colour = tabs["ordinary"].evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert lightness(dark=True) < 150
    assert lightness(dark=False) > 600


def test_on_paper_it_is_a4_dark_on_white_and_without_navigation(browser, addresses):
    opened = browser.open(addresses["ordinary"], dark=True)
    opened.call(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    assert opened.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.evaluate("getComputedStyle(document.images[0]).filter") == "none"
    pdf = opened.pdf()
    sizes = {tuple(map(float, box)) for box in re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)}
    assert sizes
    assert all(abs(width - 595.3) < 1 and abs(height - 841.9) < 1 for width, height in sizes)


def test_a_notebook_shows_the_page_in_a_frame_of_its_own(browser, report, tmp_path):
    cell = tmp_path / "cell.html"
    cell.write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{report._repr_html_()}", encoding="utf-8")
    opened = browser.open(cell.as_uri())
    assert opened.evaluate("getComputedStyle(document.body).maxWidth") == "none"
    assert opened.evaluate("document.querySelector('iframe').srcdoc") == report.to_html()


@pytest.mark.parametrize("kind", ["ordinary", "hostile"])
def test_on_a_phone_the_page_has_at_most_ten_screens_and_tables_open_on_demand(browser, addresses, kind):
    page = browser.open(addresses[kind], width=390, height=844)
    assert page.evaluate("document.documentElement.scrollHeight") <= 10 * 844
    heights = "[...document.querySelectorAll('details')].map(one => one.scrollHeight)"
    folded = page.evaluate(heights)
    page.evaluate("for (const one of document.querySelectorAll('summary')) one.click()")
    assert all(after > before for before, after in zip(folded, page.evaluate(heights), strict=True))


def test_on_a_wide_screen_nothing_is_folded_and_pictures_use_the_width(tabs):
    page = tabs["ordinary"]
    page.look(width=1280)
    assert page.evaluate("[...document.querySelectorAll('summary')].every(one => one.offsetHeight === 0)")
    assert page.evaluate("[...document.querySelectorAll('tr')].every(row => row.offsetHeight > 0)")
    share = "image => image.offsetWidth / document.querySelector('main').offsetWidth"
    assert min(page.evaluate(f"[...document.images].map({share})")) > 0.45
    assert min(page.evaluate(f"[...document.querySelectorAll('.alone img')].map({share})")) > 0.95


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="no pdftotext: apt-get install poppler-utils")
def test_every_row_of_every_table_is_on_paper(browser, addresses, report, tmp_path):
    path = tmp_path / "page.pdf"
    path.write_bytes(browser.open(addresses["ordinary"], width=400).pdf())
    run = subprocess.run(["pdftotext", path, "-"], check=True, capture_output=True, text=True)
    printed = _unspaced(run.stdout)
    blocks = [block for section in report._document.sections for block in section.blocks]
    rows = [row for block in blocks if isinstance(block, Table) for row in block.rows]
    assert len(rows) > 15
    for first, *others in rows:
        assert _unspaced(first.short if isinstance(first, Name) else first) in printed
        # A cell may take two lines, between which its neighbours stand.
        for word in " ".join(map(str, others)).split():
            assert _unspaced(word) in printed
    lines = [plain(item) for block in blocks if isinstance(block, Bullets) for item in block.items]
    for text in (*lines, *report._document.methods):
        assert _unspaced(text) in printed


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="no pdftotext: apt-get install poppler-utils")
def test_no_row_of_a_table_is_alone_on_a_page(browser, report, tmp_path):
    rows = tuple((f"row{number:02}", "1") for number in range(40))
    table = Table("A table", ("Name", "Count"), rows, (False, True))
    splits = set()
    for lines in range(14, 18):
        above = Bullets(tuple((f"Line {number}",) for number in range(lines)))
        document = dataclasses.replace(
            report._document, sections=(Section("Tables", "tables", (above, table)),)
        )
        (tmp_path / "page.html").write_text(render_html(document), encoding="utf-8")
        opened = browser.open((tmp_path / "page.html").as_uri())
        (tmp_path / "page.pdf").write_bytes(opened.pdf())
        text = subprocess.run(
            ["pdftotext", tmp_path / "page.pdf", "-"], check=True, capture_output=True
        ).stdout
        found = [len(set(re.findall(rb"row\d\d", page))) for page in text.split(b"\f")]
        splits.add(tuple(count for count in found if count))
    assert {sum(split) for split in splits} == {40}
    assert len(splits) > 2
    assert min(map(min, splits)) >= 2, splits


def _unspaced(text):
    # Where a line ends in a hyphen, the text of a page loses it.
    return "".join(text.split()).replace("-", "")
