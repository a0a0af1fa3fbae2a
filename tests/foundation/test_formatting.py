"""Names and numbers as people read them, and as no program misreads them."""

import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from safetykit_analytics import formatting

ANY = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=80)
MISSING = [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT")]


@given(ANY)
def test_what_is_shown_has_no_shapeless_character_but_joiners(name):
    shown = formatting.visible(name)
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Zl", "Zp"} or c in "\u200c\u200d" for c in shown)


@given(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=80))
def test_letters_and_signs_are_shown_as_they_are(name):
    assert formatting.visible(name) == name


def test_direction_overrides_line_breaks_and_half_characters_are_shown_as_escapes():
    hidden = "a\u202eb\nc\u2066d\x00\U000e0041\ud800\u2028"
    assert formatting.visible(hidden) == r"a\u202eb\nc\u2066d\x00\U000e0041\ud800\u2028"


@given(ANY)
def test_what_is_visible_stays_as_it_is_when_shown_again(name):
    assert formatting.visible(formatting.visible(name)) == formatting.visible(name)


@pytest.mark.parametrize("value", MISSING)
def test_whatever_pandas_calls_missing_is_missing_in_words_too(value):
    assert formatting.is_missing(value)
    assert formatting.visible_name(value) == "(none)"
    write = (formatting.number, formatting.percent, formatting.points, formatting.p_value, formatting.hours)
    assert {one(value) for one in write} == {"—"}
    between = (formatting.percent_interval, formatting.points_interval, formatting.hours_between)
    assert {one(value, value) for one in between} == {"—"}


@pytest.mark.parametrize("value", [0, 0.0, "", "nan", "NaT", False, pd.Timestamp(0), pd.Timedelta(0)])
def test_nothing_else_is_missing(value):
    assert not formatting.is_missing(value)


def test_a_long_name_ends_in_an_ellipsis():
    assert formatting.shortened("x" * 60) == "x" * 60
    assert formatting.shortened("x" * 61) == "x" * 59 + "…"


@given(ANY)
def test_escaped_words_are_words_to_markdown(name):
    markdown = MarkdownIt("gfm-like", {"linkify": False})
    rendered = markdown.parseInline(f"x{formatting.in_markdown(name)}x")[0].children
    assert {token.type for token in rendered} <= {"text", "text_special"}
    assert "".join(token.content for token in rendered) == f"x{formatting.visible(name)}x"


@pytest.mark.parametrize("link", ["[a](b)", "![a](b)", "<https://a.b>", "https://a.b", "www.a.b", "a@b.c"])
def test_no_link_is_left_in_markdown(link):
    written = formatting.in_markdown(link)
    rendered = MarkdownIt("gfm-like", {"linkify": False}).parseInline(written)[0].children
    assert {token.type for token in rendered} <= {"text", "text_special"}
    # What code hosts make links of by themselves.
    assert not any(sign in written.replace(r"\://", "").replace(r"\@", "") for sign in ("://", "www.", "@"))


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "+"])
def test_formulas_are_defused(cell):
    assert formatting.csv_cell(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["-0.5", "+3", "-1e5", "plain", "a=b", 3, -3.5, None])
def test_numbers_and_plain_text_are_left_alone(cell):
    assert formatting.csv_cell(cell) is cell


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0213, "2.13 %"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.00004, "0.0040 %"),
        (0.0009999, "0.100 %"),
        (0.09996, "10.00 %"),
        (0.456, "45.6 %"),
        (-0.02, "−2.00 %"),
        (1e-12, "0 %"),
    ],
)
def test_percentages_never_round_something_to_nothing(value, shown):
    assert formatting.percent(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0042, "+0.42 pp"),
        (-0.0042, "−0.42 pp"),
        (-0.0005, "−0.05 pp"),
        (-0.00001, "−0.0010 pp"),
        (0.25, "+25.0 pp"),
        (0.0, "0 pp"),
        (1e-18, "0 pp"),
    ],
)
def test_differences_are_percentage_points_and_keep_their_sign(value, shown):
    assert formatting.points(value) == shown
    assert formatting.points(abs(value), signed=False) == shown.lstrip("+−")


def test_an_interval_names_its_unit_once():
    assert formatting.percent_interval(0.018, 0.124) == "1.80 to 12.4 %"
    assert formatting.points_interval(-0.001, 0.25) == "−0.10 to +25.0 pp"
    assert formatting.percent_interval(0.018, None) == "—"


@given(st.floats(0.001, 1), st.sampled_from([0.01, 0.05, 0.1, 0.32]))
def test_a_rounded_p_value_stays_on_its_side_of_the_threshold(p, alpha):
    assert (float(formatting.p_value(p, alpha=alpha)) < alpha) == (p < alpha)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (7, "7"), (7.25, "7.2"), (0.04, "0.0"), (1234567.8, "1,234,568"), (-3.5, "-3.5")],
)
def test_small_amounts_have_a_decimal(value, shown):
    assert formatting.number(value) == shown


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.5, 0.75, "30 min to 45 min"),
        (5.0, 7.5, "5 h to 7.5 h"),
        (100.0, 100.0, "4.2 days"),
        (69.0, 72.0, "2.9 days to 3 days"),
        (20.0, 80.0, "20 h to 3.3 days"),
        (6.0, float("nan"), "at least 6 h"),
        (6.0, None, "at least 6 h"),
        (None, 6.0, "at most 6 h"),
        (None, None, "—"),
    ],
)
def test_ranges_of_hours_read_as_people_say_them(low, high, shown):
    assert formatting.hours_between(low, high) == shown


def test_a_list_reads_as_people_say_it():
    assert [formatting.listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "", "a", "a and b", "a, b and c",
    ]  # fmt: skip


def test_a_noun_follows_its_number():
    shown = [formatting.plural(*words) for words in ((1, "batch"), (24112.0, "decision"), (0, "batch"))]
    assert shown == ["1 batch", "24,112 decisions", "0 batches"]
    assert formatting.plural(2, "policy", "policies") == "2 policies"


def test_the_place_of_a_store_is_shown_without_its_user_and_password():
    assert formatting.place_name("ftp://user:password@example.com/snapshots") == "ftp://example.com/snapshots"
    assert formatting.place_name("snapshots") == "snapshots"


def test_a_difference_follows_from_the_percentages_as_they_are_shown():
    before, after = 0.02388, 0.03484
    assert (formatting.percent(before), formatting.percent(after)) == ("2.39 %", "3.48 %")
    assert formatting.points_between(before, after) == "+1.09 pp"
    assert formatting.points(after - before) == "+1.10 pp"
