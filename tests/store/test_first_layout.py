"""Stores of the first layout, a folder for each UTC day of observation, are read and converted."""

from __future__ import annotations

import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.store import compaction
from safetykit_analytics.store.local import LocalFiles
from tests.store.faults import Crash, FaultyOs, instead_of_os
from tests.store.helpers import by_day, expected, files_of, fleet, observations, write_old_store

FRAME = pd.concat([fleet(4, stuck={2}), observations(50)], ignore_index=True)


@pytest.fixture
def store(tmp_path):
    write_old_store(tmp_path, FRAME)
    return ska.SnapshotStore(tmp_path)


def test_a_store_of_the_first_layout_reads_as_it_is(store):
    pd.testing.assert_frame_equal(store.read(), expected(FRAME))
    assert [cohort.name for cohort in store.cohorts()][-1] == "2026-11-05"
    last = expected(FRAME).groupby("batch_id")["is_terminal"].last()
    assert store.open_batch_ids() == sorted(last.index[~last.astype(bool)])
    assert "of the first layout, which compact() converts" in repr(store)
    assert store.verify() == []


@pytest.mark.parametrize("rows", [50, 10**6])
def test_compaction_converts_it_and_an_old_release_then_refuses_it(store, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(compaction, "_ROWS_AT_A_TIME", rows)
    store.append(by_day(FRAME)[0])
    store.compact()
    pd.testing.assert_frame_equal(store.read(), expected(FRAME))
    assert len(files_of(tmp_path, "cohorts")) == 5
    # What an old release looks for, and without which it refuses a folder.
    assert not list(tmp_path.glob("observed_date=*"))
    assert not (tmp_path / ".safetykit-analytics").exists()
    assert store.verify() == []


def test_a_store_that_holds_both_layouts_reads_each_key_once(store, tmp_path):
    store.append(FRAME.iloc[::2])
    pd.testing.assert_frame_equal(store.read(), expected(FRAME))
    store.compact()
    write_old_store(tmp_path, FRAME.iloc[::3])  # an old release that had begun before
    pd.testing.assert_frame_equal(store.read(), expected(FRAME))
    store.compact()
    pd.testing.assert_frame_equal(store.read(), expected(FRAME))
    assert not (tmp_path / ".safetykit-analytics").exists()


def test_old_files_are_removed_only_when_all_rows_are_published_and_the_marker_last(
    store, tmp_path, monkeypatch
):
    published = []
    publish, remove, retire = LocalFiles.publish, LocalFiles.remove, LocalFiles.retire

    def removing(files, paths):
        published.append(len(files_of(tmp_path, "cohorts")))
        # A release that knows only this layout lists its marker first, and fails.
        with pytest.raises(OSError, match="symbolic links"):
            list((tmp_path / ".safetykit-analytics").iterdir())
        stay = remove(files, paths)
        assert (tmp_path / ".safetykit-analytics").is_symlink()
        return stay

    monkeypatch.setattr(LocalFiles, "remove", removing)
    store.compact()
    assert published == [5]
    assert not (tmp_path / ".safetykit-analytics").is_symlink()
    assert publish is LocalFiles.publish
    assert retire is LocalFiles.retire


def test_a_crash_within_a_conversion_loses_nothing(tmp_path):
    frame = fleet(2, per_day=1, hours=30)
    n = 0
    while True:
        n += 11  # every eleventh, as each takes a store of its own
        folder = tmp_path / str(n)
        write_old_store(folder, frame)
        store = ska.SnapshotStore(folder)
        try:
            with instead_of_os(FaultyOs(n, Crash)):
                store.compact()
        except Crash:
            if n % 3 == 0:
                pd.testing.assert_frame_equal(store.read(), expected(frame))
            store.compact()
            assert not (folder / ".safetykit-analytics").exists()
            pd.testing.assert_frame_equal(store.read(), expected(frame))
        else:
            break
    assert n > 40


def test_a_damaged_old_file_stays_and_no_old_release_reads_it_as_all_there_is(store, tmp_path):
    victim = sorted(tmp_path.glob("observed_date=*/*"))[1]
    victim.write_bytes(victim.read_bytes()[:-10])
    with pytest.raises(ska.DamagedFile, match=victim.name):
        store.compact()
    assert list(tmp_path.glob("observed_date=*/*")) == [victim]
    assert (tmp_path / ".safetykit-analytics").is_symlink()
    assert [finding.path for finding in store.verify()] == [str(victim)]
    victim.unlink()
    store.compact()
    assert not (tmp_path / ".safetykit-analytics").is_symlink()
    assert store.verify() == []
