"""Ids are matched by hashes; what comes out depends on the ids alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.flow import edges
from safetykit_analytics.flow.numbering import hash_ids, number_batches
from tests.rates.helpers import HOUR, MONDAY, frame_of, row

if TYPE_CHECKING:
    import pathlib

    import pytest

IDS = st.sets(st.text(max_size=20) | st.sampled_from(["batch_a", "batch_b", "batch_\u00e9"]), max_size=8)


@given(days=st.lists(IDS, min_size=1, max_size=5), collide=st.booleans())
def test_the_same_id_has_the_same_number_on_every_day_and_no_other_id_has_it(
    days: list[set[str]], *, collide: bool
) -> None:
    ids = [pa.array(sorted(day), type=pa.string()) for day in days]
    hashes = [hash_ids(day) % np.uint64(2 if collide else 2**63) for day in ids]
    numbers, names = number_batches(ids, np.concatenate(hashes))
    assert names.take(pa.array(numbers)).to_pylist() == [name for day in ids for name in day.to_pylist()]
    assert len(set(names.to_pylist())) == len(names)


def test_a_hash_does_not_depend_on_the_strings_around() -> None:
    texts = pa.array(["", "a", "batch_1", "batch_10", "batch_01hf89meedvef6pc00njv3ezh0", "a\0"])
    alone = [hash_ids(texts.slice(place, 1))[0] for place in range(len(texts))]
    assert hash_ids(texts).tolist() == alone
    assert len(set(alone)) == len(texts)


def test_batches_whose_hashes_collide_stay_apart(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ska.SnapshotStore(tmp_path / "snapshots")
    store.append(
        frame_of(
            [
                row(f"batch_{number}", MONDAY + hours * HOUR, 10 * number * hours, 0, created_at=MONDAY)
                for number in range(1, 5)
                for hours in (1, 20, 30, 60)
            ]
        )
    )
    expected = ska.rates(store)
    monkeypatch.setattr(edges, "hash_ids", lambda ids: np.zeros(len(ids), dtype=np.uint64))
    pd.testing.assert_frame_equal(ska.rates(store), expected)
