"""Short Markdown and Slack's blocks: within their limits, whatever the names."""

import dataclasses
import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from safetykit_analytics.report import weekly_report
from safetykit_analytics.report.document import Name
from safetykit_analytics.report.messages import short_markdown, slack_message
from safetykit_analytics.report.sections import compose
from tests.report.helpers import MONDAY, WEEK, batch_rows, frame_of, nothing
from tests.report.hostile import NAMES

ANY = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=80) | st.sampled_from(
    [*NAMES, "|" * 80, "`" * 80, "&" * 80, "<" * 80, "\u202e" * 80, "<!channel>", "<@U1>", "a:smile:b"]
)


@pytest.fixture(scope="module")
def ordinary(report):
    return compose(report.facts, {})


def named_everywhere(document, names):
    """Write a document whose every sentence is full of names."""
    sentence = tuple(itertools.chain.from_iterable((" of ", Name(name)) for name in names))
    return dataclasses.replace(document, headlines=(sentence,) * 3, warnings=(sentence,))


def texts(found):
    """List the text objects of a message with the longest that each may be."""
    for block in found["blocks"]:
        if block["type"] == "header":
            yield block["text"], 150
        elif block["type"] == "context":
            yield from ((text, 3000) for text in block["elements"])
        elif "fields" in block:
            assert len(block["fields"]) <= 10
            yield from ((text, 2000) for text in block["fields"])
        else:
            yield block["text"], 3000


def check_slack(found):
    assert set(found) == {"text", "blocks"}
    assert 0 < len(found["blocks"]) <= 50
    assert {block["type"] for block in found["blocks"]} <= {"header", "context", "section"}
    assert json.loads(json.dumps(found)) == found
    pairs = [*texts(found), ({"type": "mrkdwn", "text": found["text"], "verbatim": True}, 3000)]
    for text, longest in pairs:
        assert 0 < len(text["text"]) <= longest
        assert text.get("verbatim") or text["type"] == "plain_text"
        assert not re.search(r"[<>]|&(?!(amp|lt|gt);)", text["text"])
        assert not re.search(r"@(?!\u2060)", text["text"])


def check_short(written):
    assert len(written) <= 2900
    assert not re.search(r"(?<!\\)\|", written)
    assert not re.search(r"&#?\w+;", written)
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(written)
    inline = {child.type for token in tokens for child in token.children or ()}
    assert inline <= {"text", "text_special", "strong_open", "strong_close", "code_inline", "softbreak"}
    assert {token.type.partition("_")[0] for token in tokens} <= {
        "paragraph", "inline", "ordered", "bullet", "list", "blockquote",
    }  # fmt: skip


@given(st.lists(ANY, min_size=1, max_size=30))
def test_slack_messages_are_within_their_limits_and_mention_nobody(ordinary, names):
    check_slack(slack_message(named_everywhere(ordinary, names)))


@given(st.lists(ANY, min_size=1, max_size=30))
def test_short_markdown_is_short_and_holds_no_table_link_or_entity(ordinary, names):
    check_short(short_markdown(named_everywhere(ordinary, names)))


@pytest.mark.parametrize("name", NAMES)
def test_short_markdown_shows_a_name_as_it_is(ordinary, name):
    written = short_markdown(dataclasses.replace(ordinary, headlines=(("In ", Name(name), "."),)))
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(written)
    shown = ["".join(child.content for child in token.children) for token in tokens if token.type == "inline"]
    assert _unspaced(f"In {Name(name).short}.") in map(_unspaced, shown)


def _unspaced(text):
    """Leave out blanks, one of which a code span loses on either side."""
    return "".join(text.split())


def test_slack_and_short_markdown_say_the_headlines_and_the_key_numbers(report):
    written, found = report.to_markdown(short=True), report.to_slack()
    sections = [block["text"]["text"] for block in found["blocks"] if "text" in block]
    for number, headline in enumerate(report.to_dict()["headlines"], 1):
        assert f"{number}. {headline}" in written.replace("`", "")
        assert f"{number}. {headline}" in [text.replace("`", "") for text in sections]
    for label in ("Decisions processed", "Throughput per hour", "Error rate", "Backlog"):
        assert f"- {label}: **" in written
        assert f"*{label}*" in json.dumps(found)
    assert found["text"].startswith(f"SafetyKit weekly report {WEEK}: ")


@pytest.mark.parametrize("kind", ["hostile", "empty", "many"])
def test_any_fleet_fits(kind, hostile):
    one = {"hostile": lambda: hostile, "empty": lambda: weekly_report(nothing(), week=WEEK), "many": many}[
        kind
    ]()
    check_slack(one.to_slack())
    check_short(one.to_markdown(short=True))


def many():
    """Report on more policies with hostile names than a message may have blocks."""
    rows = [
        row
        for n in range(60)
        for row in batch_rows(
            MONDAY, (1, 40, 2), (50, 50, 3), policy=f"{NAMES[n % len(NAMES)]}{n}", size=500, number=n
        )
    ]
    return weekly_report(frame_of(rows), week=WEEK)
