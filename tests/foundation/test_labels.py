"""Names sort the way people sort them."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from safetykit_analytics.labels import natural_key


@given(names=st.lists(st.text("ab019.", max_size=6) | st.none(), max_size=8))
@example(names=["spam", "harassment", "v1.10", "v1.9"])
def test_names_sort_by_their_texts_and_numbers_in_turn(names: list[str | None]) -> None:
    def parts(name: str | None) -> Any:
        if name is None:
            return (1,)
        runs = ["".join(run) for _, run in itertools.groupby(name, key=str.isdecimal)]
        runs = ["", *runs] if runs and runs[0][0].isdecimal() else runs
        # A text is followed by a number or by nothing.
        return (
            0,
            [int(run) if place % 2 else run for place, run in enumerate([*runs, ""][: len(runs) or 1])],
            name,
        )

    assert sorted(names, key=natural_key) == sorted(names, key=parts)


def test_the_missing_name_sorts_last_whether_it_is_shown_or_not() -> None:
    names = ["v10", "(none)", "zebra", "v9", ""]
    assert sorted(names, key=natural_key) == ["", "v9", "v10", "zebra", "(none)"]
    assert natural_key(None) == natural_key("(none)")
