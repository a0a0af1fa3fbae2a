"""Names from the data are drawn as they are, whatever they are."""

import functools

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

import safetykit_analytics as ska
from safetykit_analytics.labels import natural_key
from safetykit_analytics.plots.series import OTHER_STYLE, STYLES, assign
from safetykit_analytics.plots.text import literal, put, wrap
from tests.effort import EFFORT
from tests.plots.helpers import comparison_table, completion_table, control_table, rates_table

KNOWN_TROUBLE = [
    *(
        "$",
        "$x$",
        "\\$x$",
        "$\\frac{",
        "_x",
        "_",
        "__",
        "a\nb",
        "\t",
        "\x00",
        "\x7f",
        "\u202espam",
        "\u2028",
        "%d",
    ),
    *(
        "{}",
        "\\alpha",
        "\\n",
        "🙂🙂🙂",
        "日本語",
        "عربي",
        "हिन्दी",
        "e\u0301",
        "\u200b",
        "\U000f0000",
    ),
    *("x" * 2000, "🙂" * 2000, "$" * 2000, "W" * 70, "a " * 1000, " ", "  ", "-", "nan", "None", "(none)"),
    *("9" * 5000, "v1.2", "&<b>"),
]
NASTY = st.one_of(st.text(min_size=1, max_size=80), st.sampled_from(KNOWN_TROUBLE))
relaxed = settings(
    max_examples=round(20 * EFFORT), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("$x$ and $y$", "$x$ and $y$"),
        ("_hidden", "_hidden"),
        ("line\nbreak\tand\x00", "line\\nbreak\\tand\\x00"),
        ("\u202etxet", "\\u202etxet"),
        ("ok 🙂", "ok □"),
        ("\ud800", "□"),
        ("a" * 60, "a" * 60),
        ("a" * 61, "a" * 59 + "…"),
        ("\n" * 2000, "\\n" * 29 + "…"),
    ],
)
def test_a_name_is_drawn_literally(name, drawn):
    assert literal(name) == drawn


@given(NASTY)
def test_what_is_drawn_fits_has_no_control_characters_and_stays_as_it_is_when_drawn_again(name):
    drawn = literal(name)
    assert len(drawn) <= 60
    assert drawn.isprintable() or " " in drawn or any(ord(character) > 127 for character in drawn)
    assert "\n" not in drawn
    assert literal(drawn) == drawn


@given(NASTY, st.integers(5, 40))
def test_wrapping_loses_nothing_but_spaces(name, width):
    drawn = literal(name)
    wrapped = wrap(drawn, width=width)
    assert "".join(wrapped.split()) == "".join(drawn.split())
    assert drawn.isspace() or max(map(len, wrapped.split("\n"))) <= width


def test_wrapping_keeps_the_breaks_that_are_there():
    assert wrap("certain to possible,\ngiven when it was polled", width=30) == (
        "certain to possible,\ngiven when it was polled"
    )
    assert wrap("one two\n\nthree four", width=6) == "one\ntwo\n\nthree\nfour"


def test_dollars_are_no_formula_even_where_tex_is_switched_on():
    text = Figure().text(0, 0, "", usetex=True)
    put(text, "$x$")
    assert (text.get_text(), text.get_parse_math(), text.get_usetex()) == ("$x$", False, False)


def test_a_name_that_begins_with_an_underscore_stands_in_the_legend():
    ax = ska.plot_throughput(rates_table([("spam", "_v7"), ("spam", "$v8$")]))
    said = [text.get_text().split("\n")[0] for text in ax.get_legend().get_texts()]
    assert said[:2] == ["$v8$", "_v7"]
    assert not any(text.get_parse_math() for text in ax.get_legend().get_texts())


@relaxed
@given(st.lists(st.tuples(st.none() | NASTY, st.none() | NASTY), min_size=1, max_size=2, unique=True))
def test_no_name_makes_matplotlib_warn_over_time(groups):
    plain = [(f"p{i}", f"v{i}") for i in range(len(groups))]
    policies = {f"p{i}": policy for i, (policy, _) in enumerate(groups)}
    versions = {f"v{i}": version for i, (_, version) in enumerate(groups)}
    for draw, table in (
        (functools.partial(ska.plot_grid, ska.plot_throughput), rates_table(plain, buckets=3)),
        (lambda table: ska.plot_control_chart(table).figure, control_table(plain, buckets=3)),
    ):
        table["policy_id"] = table["policy_id"].map(policies.get).astype(object)
        table["policy_version"] = table["policy_version"].map(versions.get).astype(object)
        draw(table).draw_without_rendering()


def test_all_known_trouble_in_one_picture_makes_no_warning():
    table = rates_table([("p", f"v{i}") for i in range(len(KNOWN_TROUBLE))], buckets=2)
    table["policy_version"] = pd.Series([name for name in KNOWN_TROUBLE for _ in range(2)], dtype=object)
    for policy, rows in (("first", table[:40]), ("second", table[40:])):
        ska.plot_error_rate(rows.assign(policy_id=policy)).figure.draw_without_rendering()
    ska.plot_grid(ska.plot_error_rate, table[-16:], by="policy_version").draw_without_rendering()


@relaxed
@given(st.none() | NASTY, st.none() | NASTY)
@example(policy=None, version="00U" + "W" * 57)
def test_no_name_makes_matplotlib_warn_in_rows(policy, version):
    comparison = comparison_table("v7", [("v8", 9, 900, 0.01, 0.0, 0.02, "higher")])
    completion = completion_table([("spam", "v7", 4, 1, (1.0, 2.0, 3.0, None))])
    for draw, table in (
        (lambda table: ska.plot_comparison(table).figure, comparison),
        (functools.partial(ska.plot_grid, ska.plot_completion_time), completion),
    ):
        table["policy_id"] = pd.Series([policy] * len(table), dtype=object)
        table["policy_version"] = (
            table["policy_version"].astype(object).replace({"v8": version, "v7": version})
        )
        draw(table).draw_without_rendering()


@given(st.sets(NASTY, max_size=10))
def test_up_to_ten_names_have_ten_styles_of_their_own(names):
    styles = assign(names)
    assert len({styles[name] for name in names}) == len(names)
    assert {styles[name] for name in names} <= set(STYLES)


def test_a_version_keeps_its_style_whatever_stands_beside_it():
    assert assign(["v7", "v8"])["v8"] == assign(["v8", "v9", "v10"])["v8"] == assign(["v8"])["v8"]


# None and "(none)" are the same label, in no order.
@given(st.lists(st.none() | NASTY.filter(lambda name: name != "(none)"), max_size=6))
def test_natural_order_does_not_depend_on_the_order_of_the_input(names):
    assert sorted(dict.fromkeys(names), key=natural_key) == sorted(set(names), key=natural_key)


# Machado, Oliveira, Fernandes (2009), doi:10.1109/TVCG.2009.113: severity 1.0, on linear RGB, row by row.
VISION = {
    "full": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "protanopia":
        (0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998),
    "deuteranopia":
        (0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881),
    "tritanopia":
        (1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039),
}  # fmt: skip


@pytest.mark.parametrize("vision", VISION)
def test_no_two_styles_look_alike_to_any_reader(vision):
    looks = [*STYLES, OTHER_STYLE]
    for i, one in enumerate(looks):
        for other in looks[:i]:
            apart = np.linalg.norm(_lab(one, vision) - _lab(other, vision))
            # 2.3 is a just noticeable difference; 10 is plainly another colour. Neighbours differ more.
            assert apart > 10
            assert one.marker != other.marker


def _lab(style, vision):
    channels = np.array([int(style.color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.reshape(VISION[vision], (3, 3)) @ linear, 0, 1)
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.072175],
        [0.0193339, 0.119192, 0.9503041],
    ]
    ratio = to_xyz @ seen / (0.95047, 1.0, 1.08883)
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
