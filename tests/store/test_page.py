"""The page on the store names tests that exist."""

from __future__ import annotations

import pathlib
import re

HERE = pathlib.Path(__file__).parent


def test_every_test_that_the_page_names_exists():
    page = (HERE.parents[1] / "docs" / "store.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    there = set(
        re.findall(
            r"^(?:def )?(test_\w+)",
            "".join(path.read_text("utf-8") for path in HERE.glob("*.py")),
            re.MULTILINE,
        )
    )
    assert len(named) > 25
    assert named <= there
