"""Values added to whole ranges of places."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from safetykit_analytics.flow.spread import add_ranges

BOUNDS = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted)


@given(ranges=st.lists(st.tuples(BOUNDS, st.integers(-9, 9), st.integers(0, 9))), more=st.integers(0, 3))
def test_values_of_ranges_add_up_as_if_added_place_by_place(ranges: list[Any], more: int) -> None:
    size = max((stop for (_, stop), *_ in ranges), default=0) + more
    expected = np.zeros((2, size))
    for (first, stop), *values in ranges:
        expected[:, first:stop] += np.array(values)[:, None]
    bounds = np.array([bounds for bounds, *_ in ranges], dtype=np.int64).reshape(-1, 2)
    values = np.array([values for _, *values in ranges], dtype=np.float64).reshape(-1, 2).T
    found = add_ranges(values, bounds[:, 0], bounds[:, 1], size)
    assert found.tolist() == expected.tolist()


def test_a_place_without_a_range_holds_an_exact_zero() -> None:
    found = add_ranges(np.array([[0.1, 0.2]]), np.array([0, 2]), np.array([3, 5]), 8)
    assert found.tolist() == [[0.1, 0.1, 0.1 + 0.2, 0.2, 0.2, 0.0, 0.0, 0.0]]
