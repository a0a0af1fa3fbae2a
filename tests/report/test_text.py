"""Names and numbers as people read them, and as no program misreads them."""

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from safetykit_analytics.report import text
from safetykit_analytics.report.rendering import render_csv

ANY = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=80)


@given(ANY)
def test_what_is_shown_has_no_shapeless_character_but_joiners(name):
    shown = text.visible(name)
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Zl", "Zp"} or c in "\u200c\u200d" for c in shown)


@given(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=80))
def test_letters_and_signs_are_shown_as_they_are(name):
    assert text.visible(name) == name


def test_direction_overrides_and_line_breaks_are_shown_as_escapes():
    assert text.visible("a\u202eb\nc\u2066d\x00\U000e0041") == r"a\u202eb\nc\u2066d\x00\U000e0041"


def test_a_name_is_cut_only_where_it_is_read():
    name = text.Name("x" * 2000)
    assert len(name.short) == 60
    assert name.short.endswith("…")
    assert name.visible == str(name) == "x" * 2000


@given(ANY)
def test_a_code_span_holds_exactly_the_shown_name(name):
    shown = text.visible(name)
    tokens = (
        MarkdownIt("gfm-like", {"linkify": False})
        .parseInline(f"before {text.markdown_code(shown)} after")[0]
        .children
    )
    code = [token.content for token in tokens if token.type == "code_inline"]
    if shown.strip(" "):
        assert code == [shown]
    assert {token.type for token in tokens} == {"text", "code_inline"}


@given(ANY)
def test_a_code_span_in_a_table_stays_in_its_cell(name):
    table = f"| a | b |\n| --- | --- |\n| {text.markdown_code(text.visible(name), in_table=True)} | end |\n"
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(table)
    cells = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "td_open"]
    assert len(cells) == 2
    assert cells[1] == "end"


@given(ANY)
def test_escaped_words_are_words_to_markdown(name):
    rendered = (
        MarkdownIt("gfm-like", {"linkify": False}).parseInline(f"x{text.markdown_text(name)}x")[0].children
    )
    assert {token.type for token in rendered} <= {"text", "text_special"}
    assert "".join(token.content for token in rendered) == f"x{text.visible(name)}x"


@given(st.lists(ANY, min_size=1, max_size=3))
def test_a_csv_row_comes_back_and_no_cell_is_a_formula(row):
    found = next(csv.reader(io.StringIO(render_csv([], [row]).removeprefix("\r\n"), newline="")))
    for cell, back in zip(row, found, strict=True):
        assert back in {cell, "'" + cell}
        assert back[:1] not in set("=+-@\t\r") or _is_number(back)


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "+"])
def test_formulas_are_defused(cell):
    assert text.csv_cell(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["-0.5", "+3", "-1e5", "plain", "a=b", 3, -3.5, None])
def test_numbers_and_plain_text_are_left_alone(cell):
    assert text.csv_cell(cell) is cell


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0213, "2.13 %"),
        (0.0, "0.0 %"),
        (1.0, "100.0 %"),
        (0.00004, "0.004 %"),
        (0.456, "45.6 %"),
        (float("nan"), "—"),
    ],
)
def test_percentages_never_round_something_to_nothing(value, shown):
    assert text.percent(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0042, "+0.42 pp"),
        (-0.0042, "−0.42 pp"),
        (-0.00001, "0.00 pp"),
        (0.25, "+25.0 pp"),
        (float("nan"), "—"),
    ],
)
def test_differences_have_a_sign_and_are_percentage_points(value, shown):
    assert text.points(value) == shown


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.5, 0.75, "30 min to 45 min"),
        (5.0, 7.5, "5 h to 7.5 h"),
        (100.0, 100.0, "4.2 days"),
        (6.0, float("nan"), "at least 6 h"),
        (6.0, None, "at least 6 h"),
        (None, 6.0, "at most 6 h"),
        (None, None, "—"),
    ],
)
def test_ranges_of_hours_read_as_people_say_them(low, high, shown):
    assert text.hours_between(low, high) == shown
