"""What a report's sentences are made of: names that stay names, and no program misreads them."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from safetykit_analytics.formatting import csv_cell, visible
from safetykit_analytics.report import document
from safetykit_analytics.report.rendering import render_csv

ANY = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=80)


def test_a_name_is_cut_only_where_it_is_read():
    name = document.Name("x" * 2000)
    assert len(name.short) == 60
    assert name.short.endswith("…")
    assert name.visible == str(name) == "x" * 2000


@given(ANY)
def test_a_code_span_holds_exactly_the_shown_name(name):
    shown = visible(name)
    tokens = (
        MarkdownIt("gfm-like", {"linkify": False})
        .parseInline(f"before {document.markdown_code(shown)} after")[0]
        .children
    )
    code = [token.content for token in tokens if token.type == "code_inline"]
    if shown.strip(" "):
        assert code == [shown]
    assert {token.type for token in tokens} == {"text", "code_inline"}


@given(ANY)
def test_a_code_span_in_a_table_stays_in_its_cell(name):
    table = f"| a | b |\n| --- | --- |\n| {document.markdown_code(visible(name), in_table=True)} | end |\n"
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(table)
    cells = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "td_open"]
    assert len(cells) == 2
    assert cells[1] == "end"


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


@pytest.mark.parametrize("sign", "=+-@＝＋－＠")
def test_no_blank_and_no_width_hides_a_formula_in_csv(sign):
    for blank in ("", " ", "\u00a0", "\n", "\t ", "\r\n", "\u3000", "\ufeff", "\u200b"):
        cell = f"{blank}{sign}HYPERLINK(1)"
        assert csv_cell(cell) == "'" + cell


def test_numbers_and_words_stand_in_csv_as_they_are():
    for cell in ("-0.5", "+3", "1e-5", "a=b", " a", "", -0.5, None):
        assert csv_cell(cell) is cell
