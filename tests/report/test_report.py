"""What people get: the same bytes every time, names as they are, words where there is nothing to show."""

import csv
import datetime as dt
import html
import html.parser
import io
import json
import os
import re
import stat
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from markdown_it import MarkdownIt

import safetykit_analytics as ska
from safetykit_analytics.formatting import csv_cell, visible
from safetykit_analytics.report import figures, weekly_report
from safetykit_analytics.report.document import plain
from safetykit_analytics.report.sections import _relative, compose
from safetykit_analytics.simulator.fleet import POLICIES, Policy, Version
from tests.report.helpers import MONDAY, NEXT_MONDAY, WEEK, batch, fleet_frame, nothing, together
from tests.report.hostile import NAMES

WEEK_LONG = dt.timedelta(days=7)
SECTIONS = [
    "In short",
    "This week against the last",
    "Throughput and error rate by version",
    "Policy versions compared",
    "Roll-outs",
    "Control chart",
    "Backlog and stalled batches",
    "Failed and cancelled batches",
    "How good the data is",
    "How these numbers are made",
]


@pytest.fixture(scope="module")
def small():
    return fleet_frame(batches=100, weeks=2.0, hours=6.0, start=MONDAY - WEEK_LONG, policies=POLICIES[:1])


@pytest.fixture(scope="module")
def small_report(small):
    return weekly_report(small, week=WEEK, tz="Europe/Berlin")


class Texts(html.parser.HTMLParser):
    """What a browser would show as text, and which tags there are."""

    def __init__(self, page):
        super().__init__()
        self.texts, self.tags, self.names, self._inside = [], set(), [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._inside.append(tag)
        self.texts += [value for name, value in attrs if name == "alt"]

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append(data)
        if self._inside and self._inside[-1] == "bdi":
            self.names.append(data)


def test_the_sections_stand_in_the_promised_order(report):
    titles = re.findall(r"<h2[^>]*>([^<]*)</h2>", report.to_html())
    assert titles == SECTIONS
    assert re.findall(r"^## (.*)$", report.to_markdown(), re.MULTILINE) == SECTIONS


@pytest.fixture(scope="module")
def shuffled_report(small):
    shuffled = pd.concat([small, small.sample(99, random_state=4)]).sample(frac=1, random_state=5)
    return weekly_report(shuffled, week=WEEK, tz="Europe/Berlin")


def check_same_bytes(one, other, folder, suffixes):
    for name, made in (("one", one), ("other", other)):
        made.to_csv(folder / name)
        for suffix in suffixes:
            made.save(folder / name / f"report{suffix}")
    paths = list((folder / "one").iterdir())
    assert len(paths) == 13 + len(suffixes)
    for path in paths:
        assert path.read_bytes() == (folder / "other" / path.name).read_bytes(), path.name


def test_the_same_observations_give_the_same_bytes_in_any_order(small_report, shuffled_report, tmp_path):
    check_same_bytes(small_report, shuffled_report, tmp_path, (".md", ".json"))
    drawn = [
        figures._pictures(figures._versions(made.facts, most=1)) for made in (small_report, shuffled_report)
    ]
    assert len(drawn[0]) == 1
    assert drawn[0] == drawn[1]


@pytest.mark.heavy
def test_pages_mails_and_workbooks_of_the_same_observations_have_the_same_bytes(
    small_report, shuffled_report, tmp_path
):
    check_same_bytes(small_report, shuffled_report, tmp_path, (".html", ".eml", ".xlsx"))


def test_a_store_gives_the_bytes_of_its_observations_and_its_name_but_never_its_path(
    small, small_report, tmp_path
):
    store = ska.SnapshotStore(tmp_path / "secret-place" / "weekly-snapshots")
    store.append(small)
    from_store = weekly_report(store, week=WEEK, tz="Europe/Berlin")
    assert from_store.to_dict() == small_report.to_dict()
    words = from_store.to_markdown()
    assert "secret-place" not in words + json.dumps(from_store.to_dict())
    assert "the store `weekly-snapshots`" in words


def test_hostile_names_come_out_literally_in_json(hostile):
    told = hostile.to_dict()
    assert {row["policy_version"] for row in told["rollouts"]} >= set(NAMES)
    assert json.loads(json.dumps(told)) == told


def test_hostile_names_come_out_literally_in_csv_and_no_cell_is_a_formula(hostile, tmp_path):
    hostile.to_csv(tmp_path)
    with (tmp_path / "rollouts.csv").open(encoding="utf-8", newline="") as file:
        names = {row["policy_version"] for row in csv.DictReader(file)}
    assert {csv_cell(name) for name in NAMES} <= names
    for path in tmp_path.iterdir():
        for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")):
            for cell in row:
                assert cell[:1] not in set("=+-@\t\r") or re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", cell)


def test_hostile_names_come_out_literally_on_the_page(hostile):
    page = Texts(hostile.to_html())
    assert {visible(name) for name in NAMES} <= set(page.names)
    assert not page.tags & {"script", "b", "iframe", "object"}
    assert "\u202e" not in hostile.to_html()
    assert "x" * 2000 in page.names


def test_hostile_names_come_out_literally_in_markdown(hostile):
    written = hostile.to_markdown()
    rendered = MarkdownIt("gfm-like", {"linkify": False}).render(written)
    shown = {html.unescape(code) for code in re.findall(r"<code>(.*?)</code>", rendered)}
    # Markdown itself drops one space on either side of a code span that has both.
    assert {visible(name).strip() for name in NAMES} <= {code.strip() for code in shown}
    assert not Texts(rendered).tags & {"script", "b", "a", "img", "em", "strong"} - {"strong"}
    assert "\u202e" not in written


def test_hostile_names_in_pictures_are_text_and_nothing_else(hostile):
    sources = re.findall(r'src="data:image/svg\+xml,([^"]*)"', hostile.to_html())
    pictures = [ET.fromstring(unquote(html.unescape(source))) for source in sources]
    assert len(pictures) > len(NAMES[::6])
    elements = [element for picture in pictures for element in picture.iter()]
    tags = {element.tag.rpartition("}")[2] for element in elements}
    assert tags <= {
        "svg",
        "defs",
        "style",
        "g",
        "path",
        "use",
        "text",
        "tspan",
        "clipPath",
        "rect",
        "pattern",
    }
    for element in elements:
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            assert not name.endswith("href") or value.startswith("#")
    assert any("$\\frac{1}{2}$" in "".join(picture.itertext()) for picture in pictures)


def test_an_empty_week_says_so():
    words = weekly_report(nothing(), week=WEEK).to_markdown()
    assert "Nothing was observed in this week" in words
    assert "there is no error rate to compare" in words
    assert "nan" not in words.lower()


def test_a_week_that_has_not_begun_says_so(small):
    words = weekly_report(small, week="2026-W50").to_markdown()
    assert "had not begun" in words
    assert "nan" not in words.lower()


def test_a_week_with_one_batch_says_so():
    words = weekly_report(
        batch(MONDAY, (1, 40, 2), (3, 95, 5), size=100), week=WEEK, as_of=NEXT_MONDAY
    ).to_markdown()
    assert "One batch was observed in this week" in words
    assert "There is no week before to compare with" in words
    assert "nan" not in words.lower()


def test_a_week_with_only_running_batches_says_so():
    waiting = together(*(batch(MONDAY, (n, 0, 0), (n + 9, 0, 0), size=50, number=n) for n in (1, 2, 3)))
    words = weekly_report(waiting, week=WEEK).to_markdown()
    assert "none of them got any decision processed" in words
    assert "3 batches are stuck now" in words
    assert "of 0 that ended" in words
    assert "nan" not in words.lower()


def test_a_week_in_which_nothing_was_processed_and_little_was_seen_says_so():
    waiting = batch(MONDAY, (1, 0, 0), (2, 0, 0), size=50)
    report = weekly_report(waiting, week=WEEK, as_of=NEXT_MONDAY)
    assert report.to_dict()["headlines"][2] == (
        "The data covers 1.19 % of the time in which batches were at work: what happened in the rest is not "
        "in these numbers."
    )
    assert "nan" not in report.to_markdown().lower()


def test_policies_without_a_version_say_so():
    frame = together(
        *(
            batch(MONDAY + pd.Timedelta(days=d), (1, 9, 1), size=10, version=None, number=d)
            for d in range(-6, 6)
        )
    )
    words = weekly_report(frame, week=WEEK, as_of=NEXT_MONDAY).to_markdown()
    assert "No batch names a version of its policy" in words
    assert "nothing to compare" in words
    assert "nan" not in words.lower()


def test_a_partial_week_says_what_it_is_compared_with(small):
    words = weekly_report(small, week=WEEK, as_of=MONDAY + pd.Timedelta(hours=60)).to_markdown()
    assert "The week is not over: these are its first 60 h" in words
    assert "compared with the same hours of 2026-W46" in words


def test_the_headlines_are_three_and_careful(report):
    changed, stuck, unknown = report.to_dict()["headlines"]
    assert "The error rate of hate-speech rose from" in changed
    assert "stuck" in stuck
    assert "data" in unknown or "not enough" in unknown
    assert not re.search(r"\b(cause[sd]?|because of|due to)\b", changed + stuck + unknown)


def test_no_words_of_a_picture_rest_on_spaces_that_a_browser_makes_one_of(report):
    sources = re.findall(r'src="data:image/svg\+xml,([^"]*)"', report.to_html())
    words = [
        "".join(element.itertext())
        for source in sources
        for element in ET.fromstring(unquote(html.unescape(source))).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert any("fewer errors" in text for text in words)
    assert [text for text in words if "  " in text] == []


def test_words_about_a_picture_stand_only_where_the_picture_does(report):
    # A dashed line is how some versions look; what is hardly observed is hollow and dotted.
    assert "Each point is one day of the two weeks; a hollow one, on a dotted line," in report.to_html()
    assert "Each point" not in report.to_markdown()
    assert "The HTML page draws both weeks day by day." in report.to_markdown()


def test_work_that_no_week_holds_is_said_in_a_headline():
    known = [
        batch(MONDAY + dt.timedelta(hours=n), (1, 90, 10), (30, 190, 10), size=200, number=n)
        for n in range(20)
    ]
    ageless = batch(MONDAY, (3, 400, 100), size=500, number=99).assign(batch_id="no-time-in-this")
    ageless["created_at"] = ageless["created_at"].mask(ageless["success_count"] >= 0)
    seen_at_work = together(*known)
    *_, unknown = ska.weekly_report(together(seen_at_work, ageless), week=WEEK).to_dict()["headlines"]
    assert unknown == (
        "500 decisions of 1 batch were made before anyone looked, at a time that no id tells: they are in "
        "no week."
    )
    *_, without = ska.weekly_report(seen_at_work, week=WEEK).to_dict()["headlines"]
    assert "in no week" not in without


def test_the_dict_has_the_promised_keys_and_only_what_json_has(report):
    found = report.to_dict()
    assert list(found) == [
        "schema_version", "library_version", "week", "previous_week", "tz", "start", "end", "as_of",
        "partial", "elapsed_hours", "headlines", "totals", "previous", "change", "versions", "comparisons",
        "rollouts", "control_chart", "backlog", "stalled", "failures", "data_quality", "methods",
    ]  # fmt: skip
    assert found["schema_version"] == 1
    assert found["start"] == "2026-11-15T23:00:00Z"
    assert len(found["methods"]) == 5
    json.dumps(found, allow_nan=False)


def test_files_are_private_and_whole_and_replace_what_was_there(report, tmp_path):
    target = tmp_path / "report.md"
    target.write_text("old")
    before = os.umask(0)
    try:
        report.save(target)
    finally:
        os.umask(before)
    assert target.read_text(encoding="utf-8") == report.to_markdown()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(report, tmp_path, monkeypatch):
    target = tmp_path / "report.md"
    target.write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        report.save(target)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_a_report_with_a_long_name_and_one_behind_a_link_are_saved_where_they_belong(report, tmp_path):
    long = tmp_path / ("é" * 122 + ".html")
    report.save(long)
    assert long.read_text(encoding="utf-8") == report.to_html()
    link = tmp_path / "latest.html"
    link.symlink_to(tmp_path / "real.html")
    report.save(link)
    assert link.is_symlink()
    assert (tmp_path / "real.html").read_text(encoding="utf-8") == report.to_html()


def test_the_zone_stands_beside_the_span_unless_it_is_utc(hostile, report):
    assert compose(hostile.facts, {}).subtitle == "Mon 16 Nov 2026, 00:00 UTC to Mon 23 Nov 2026, 00:00 UTC"
    assert compose(report.facts, {}).subtitle.endswith("00:00 +01:00 (Europe/Berlin)")


def test_a_table_that_is_cut_says_how_to_get_all_of_its_rows(tmp_path):
    policies = (batch(MONDAY, (1, 90, 10), policy=f"p{n}", number=n, size=200) for n in range(30))
    found = weekly_report(together(*policies), week=WEEK)
    sections = {section.anchor: section.blocks for section in compose(found.facts, {}).sections}
    found.to_csv(tmp_path)
    for anchor, file, n_shown in (("weeks", "totals", 25), ("backlog", "open", 25)):
        place = next(place for place, block in enumerate(sections[anchor]) if block.kind == "table")
        table, note = sections[anchor][place : place + 2]
        n_rows = len((tmp_path / f"{file}.csv").read_text(encoding="utf-8").splitlines()) - 1
        assert len(table.rows) == n_shown < n_rows
        more = f"{n_rows - n_shown} more rows: report.to_csv(folder) writes them all."
        assert plain(note.sentence) == more


def test_csv_files_begin_with_a_byte_order_mark_on_request(report, tmp_path):
    report.to_csv(tmp_path / "plain")
    report.to_csv(tmp_path / "excel", encoding="utf-8-sig")
    for path in (tmp_path / "plain").iterdir():
        assert (tmp_path / "excel" / path.name).read_bytes() == b"\xef\xbb\xbf" + path.read_bytes()
    with pytest.raises(ValueError, match="unknown encoding: 'latin-1'; expected 'utf-8' or 'utf-8-sig'"):
        report.to_csv(tmp_path / "other", encoding="latin-1")


def test_an_unknown_suffix_is_refused_with_the_known_ones(report, tmp_path):
    with pytest.raises(ValueError, match=r"expected \.html, \.md, \.json, \.eml or \.xlsx"):
        report.save(tmp_path / "report.pdf")
    assert not list(tmp_path.iterdir())


def test_a_report_shows_its_headlines_where_it_is_printed(report):
    assert WEEK in repr(report)
    assert report.to_dict()["headlines"][0] in repr(report)


def test_the_report_says_how_to_make_it_again(report):
    call = (
        'weekly_report(observations, week="2026-W47", tz="Europe/Berlin", as_of="2026-11-23T08:00:00+00:00")'
    )
    assert html.escape(call) in report.to_html() or call in html.unescape(report.to_html())
    assert f"`{call}`" in report.to_markdown()


def test_names_and_figures_do_not_depend_on_the_machines_clock_zone(small, small_report, monkeypatch):
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        found = weekly_report(small, week=WEEK, tz="Europe/Berlin")
        assert found.to_markdown() == small_report.to_markdown()
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.heavy
def test_a_page_on_twenty_policies_of_three_versions_is_at_most_a_megabyte():
    versions = tuple(Version(f"v{n}", 0.3 * (n - 1), 0.02, 1500) for n in (1, 2, 3))
    policies = tuple(Policy(f"policy-{number:02}", 0.05, versions) for number in range(20))
    page = weekly_report(fleet_frame(batches=4000, policies=policies), week=WEEK).to_html()
    assert page.count("<img ") > 10
    assert len(page.encode()) <= 1_000_000


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (0.123, "+12.3 %"),
        (-0.123, "−12.3 %"),
        (0.0001, "±0.0 %"),
        (-0.0001, "±0.0 %"),
        (None, "no comparison"),
    ],
)
def test_a_change_of_nothing_has_no_sign(change, shown):
    assert _relative(change) == shown
