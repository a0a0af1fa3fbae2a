"""What a comparison says in plain English, and how it shows itself."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import safetykit_analytics as ska
from safetykit_analytics.compare.comparison import as_list_item
from safetykit_analytics.formatting import in_markdown
from tests.compare.helpers import ended, observations, some_counts

MANY = [(3, 100), (0, 100), (9, 120), (4, 90), (2, 100), (3, 110)]


def compare(rows, **options):
    return ska.compare_versions(observations(rows), **{"policy_id": "P", "baseline": "v7"} | options)


def test_a_higher_rate_is_said_with_design_difference_interval_p_value_and_batches():
    rng = np.random.default_rng(1)
    found = compare(ended("v7", some_counts(rng, 30)) + ended("v8", some_counts(rng, 28, rate=0.05)))
    row = found.table.iloc[1]
    first, last = found.sentences
    expected = (
        f"v8 is associated with a higher error rate than v7, side by side: +{100 * row['difference']:.2f} pp "
        f"(95 % interval +{100 * row['difference_low']:.2f} to +{100 * row['difference_high']:.2f} pp), "
        f"p = {row['p_anytime']:.3f}, 28 against 30 batches."
    )
    assert first == expected
    assert last.startswith("These verdicts may be looked at again every week. Versions are not assigned")


def test_no_difference_is_said_with_what_would_have_been_seen():
    found = compare(ended("v7", MANY * 3) + ended("v8", MANY * 3))
    assert re.fullmatch(
        r"no difference found between v8 and v7, side by side: 0 pp \(95 % interval −\d\.\d\d to "
        r"\+\d\.\d\d pp\), p = 1\.00, 18 against 18 batches; one of at least \d\.\d\d pp "
        r"would have been seen \(in 80 % of such comparisons\)\.",
        found.sentences[0],
    )


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        (ended("v8", [(3, 100), (5, 90)]), "at least 2 more batches of v8 on one day beside v7"),
        ([("b", 1, 0, "PENDING", 5, 5, 0, 90, "P", "v8")], "no batch of v8 has ended yet"),
        ([("b", 1, 0, "ERROR", 0, 0, 9, 0, "P", "v8")], "that ended have processed nothing"),
    ],
)
def test_without_enough_batches_it_is_said_what_is_missing(rows, missing):
    found = compare(ended("v7", MANY) + rows)
    assert found.sentences[0].startswith("not enough batches to compare v8 with v7: ")
    assert missing in found.sentences[0]
    assert ("So far " in found.sentences[0]) == (found.table["n_batches"][1] > 0)


def test_the_last_sentence_says_how_many_comparisons_the_verdicts_are_adjusted_for():
    rng = np.random.default_rng(10)
    rows = [row for i in range(4) for row in ended(f"v{i}", some_counts(rng, 12))]
    assert "adjusted for 3 comparisons (Holm)" in compare(rows, baseline="v0").sentences[-1]
    assert "adjusted for 2 comparisons (Holm)" in compare(rows[:36], baseline="v0").sentences[-1]
    assert "adjusted" not in compare(rows[:24], baseline="v0").sentences[-1]
    assert "These verdicts are for a single look." in compare(rows, baseline="v0", looks="once").sentences[-1]


def test_versions_that_never_ran_beside_each_other_are_said_to_have_been_handed_over():
    rng = np.random.default_rng(2)
    old = [
        row
        for week in range(4)
        for row in ended("v7", some_counts(rng, 20), first=100 * week, start=168 * week)
    ]
    rows = old + ended("v8", some_counts(rng, 30, rate=0.12), start=168 * 4)
    found = compare(rows)
    assert re.match(
        r"higher since v8, which never ran beside v7: \+\d+\.\d+ pp, p < 0\.001, 30 against 80 batches; the "
        r"policy's own weeks moved by up to \d\.\d+ pp, and the next may by \d\.\d+ pp\. "
        r"Whatever else changed then is in it too\.",
        found.sentences[0],
    )


def test_a_scan_names_the_policy_of_each_sentence():
    rows = [row for p in ("P", "Q") for v in ("v7", "v8") for row in ended(v, MANY, policy=p)]
    rows += ended("w9", MANY, policy=None)
    found = compare(rows, policy_id=None)
    assert found.sentences[0].startswith("policy P: no difference found between v8 and v7, side by side")
    assert found.sentences[1].startswith("policy Q: ")
    expected = "policy (none): not enough batches: this policy has no baseline to compare w9 with."
    assert found.sentences[2] == expected


def test_a_single_version_has_nothing_to_be_compared_with():
    assert compare(ended("v7", MANY)).sentences == ("nothing to compare: there is only one version.",)
    several = compare(ended("v7", MANY) + ended("w1", MANY, policy="Q"), policy_id=None, baseline=None)
    assert several.sentences == ("nothing to compare: no policy has more than one version.",)
    nothing = ska.compare_versions(observations([]), policy_id=None, baseline=None)
    assert nothing.sentences == ("nothing to compare: no batches.",)
    assert "no batches" in nothing.to_markdown()


def test_a_comparison_is_frozen_and_prints_its_sentences():
    found = compare(ended("v7", MANY) + ended("v8", MANY))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.table = None
    assert repr(found).splitlines()[1] == f"- {found.sentences[0]}"


HOSTILE = '<img src=x onerror=alert(1)>|"&amp;`*_~$[a](http://x.y)\n\r\u202e\x1b[31m# '


class Page(HTMLParser):
    """Collects tags and text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = set(), ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not attrs

    def handle_data(self, data):
        self.text += data


def test_names_from_the_data_cannot_become_html():
    page = Page()
    rows = ended(HOSTILE, MANY, policy=HOSTILE) + ended("v8", MANY, policy=HOSTILE)
    page.feed(compare(rows, policy_id=HOSTILE, baseline=HOSTILE)._repr_html_())
    assert page.tags == {"ul", "li", "table", "thead", "tbody", "tr", "th", "td", "bdi"}
    assert '<img src=x onerror=alert(1)>|"&amp;`*_~$[a](http://x.y)\\n\\r\\u202e\\x1b[31m# ' in page.text
    assert not {"\u202e", "\x1b", "\n"} & set(page.text)


def test_names_from_the_data_cannot_become_markdown():
    rows = ended(HOSTILE, MANY, policy=HOSTILE) + ended("v8", MANY, policy=HOSTILE)
    text = compare(rows, policy_id=HOSTILE, baseline=HOSTILE).to_markdown()
    said, table = text.split("\n\n")
    assert all(line.startswith("- ") for line in said.splitlines())
    header, rule, *body = table.splitlines()
    assert len(body) == 2
    for line in (header, rule, *body):
        assert len(re.findall(r"(?<!\\)\|", line)) == 18
    name = re.escape(in_markdown(HOSTILE.split("\n", maxsplit=1)[0]))
    assert re.search(name, body[0])
    assert "<img" not in text
    assert "http://" not in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("# v", r"- \# v"),
        ("- v", r"- \- v"),
        ("1. v", r"- 1\. v"),
        ("10) v", r"- 10\) v"),
        ("2.5", r"- 2\.5"),
    ],
)
def test_the_start_of_a_list_item_opens_nothing(name, expected):
    assert as_list_item(name) == expected


def test_the_markdown_table_shows_the_numbers_for_people():
    rows = ended("v7", [(20, 1000)] * 3 + [(40, 1000)] * 3, hours=2) + ended("v8", MANY, hours=3)
    table = compare(rows).to_markdown().split("\n\n")[1].splitlines()
    cells = [cell.strip() for cell in table[2].strip("|").split("|")]
    assert cells[:5] == ["P", "v7", "baseline", "6", "6,000"]
    assert cells[5].startswith("3.00 % (")
    assert cells[6:9] == ["0 %", "500", "0 min to 2 h"]
