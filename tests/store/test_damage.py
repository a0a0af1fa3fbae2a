"""What happens to a store that is damaged, or that curious people have put things into."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import stat
import zlib

import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.store.local import LocalFiles
from tests.store.helpers import expected, files_of, fleet, observations


@pytest.fixture
def store(tmp_path):
    store = ska.SnapshotStore(tmp_path)
    store.append(observations(60, n_batches=6))
    store.append(observations(60, n_batches=6, offset=60))
    return store


def everything(store):
    """Read all there is, in each way that there is."""
    return [
        store.read,
        store.latest,
        store.open_batch_ids,
        lambda: [list(cohort.tables(["success_count"])) for cohort in store.cohorts()],
    ]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("curious")


def folder(path):
    path.unlink()
    path.mkdir()


def dangling_link(path):
    path.unlink()
    path.symlink_to("nowhere")


def another_file(path):
    path.write_bytes(next(p for p in files_of(path.parent.parent) if p != path).read_bytes())


CHECKSUM = r"its [\d,]+ bytes have the checksum [0-9a-f]{8}, its name says [0-9a-f]{8}"
REASONS = {
    cut: CHECKSUM,
    empty: r"it is empty \(0 bytes\)",
    text: CHECKSUM,
    folder: "it is a folder",
    dangling_link: "it is a link that leads nowhere",
    another_file: CHECKSUM,
}
DAMAGES = list(REASONS)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_an_error_that_names_it_never_fewer_rows(store, tmp_path, damage):
    victim = files_of(tmp_path)[0]
    damage(victim)
    for read in everything(store):
        with pytest.raises(ska.DamagedFile, match=victim.name) as caught:
            read()
        assert caught.value.path == str(victim)
        assert isinstance(caught.value, OSError)
    found = store.verify()
    assert [finding.path for finding in found] == [str(victim)]
    assert found[0].is_damage
    assert re.fullmatch(REASONS[damage], found[0].reason)
    assert "observations" in repr(store)  # which reads nothing but names


@pytest.mark.parametrize("damage", DAMAGES)
def test_reading_around_damage_is_an_explicit_choice_with_a_warning(store, tmp_path, damage):
    victim = files_of(tmp_path)[0]
    damage(victim)
    with pytest.warns(ska.errors.DamagedFileWarning, match=victim.name) as caught:
        rest = store.read(skip_damaged=True)
    assert len(rest) == 60
    assert len(caught) == 1


def flip(data, bit):
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def check_bit_flips(tmp_path, n, seed):
    store = ska.SnapshotStore(tmp_path)
    frame = observations(400, n_batches=6)
    store.append(frame)
    (path,) = files_of(tmp_path)
    good = path.read_bytes()
    draw = random.Random(seed)
    found = 0
    for _ in range(n):
        path.write_bytes(flip(good, draw.randrange(8 * len(good))))
        with pytest.raises(ska.DamagedFile, match=path.name):
            store.read()
        found += 1
    path.write_bytes(good)
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    assert found == n


def test_no_flipped_bit_is_read_in_silence(tmp_path):
    check_bit_flips(tmp_path, 1000, seed=1)


def test_other_tools_find_flipped_bits_of_pages_by_the_page_checksums(store, tmp_path):
    import pyarrow.parquet as pq

    path = files_of(tmp_path)[0]
    good = path.read_bytes()
    column = pq.read_metadata(path).row_group(0).column(1)
    last_of_page = column.data_page_offset + column.total_compressed_size - 1
    path.write_bytes(flip(good, 8 * last_of_page))
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True, partitioning=None)


def test_verify_checks_the_pages_too_of_a_file_that_was_wrong_when_it_was_written(store, tmp_path):
    path = files_of(tmp_path)[0]
    good = path.read_bytes()
    before = store.read()
    for bit in range(8 * 200, 8 * len(good), 7):
        path.unlink()
        wrong = flip(good, bit)
        path = path.with_name(f"{path.name.rpartition('-')[0]}-{zlib.crc32(wrong):08x}.parquet")
        path.write_bytes(wrong)
        with contextlib.suppress(ska.DamagedFile):
            if not store.read().equals(before):
                break
    else:
        pytest.fail("no flipped bit could be read")
    assert [finding.reason for finding in store.verify()] == ["it is not a readable snapshot (OSError)"]


def test_verify_says_of_a_file_that_cannot_be_read_what_the_system_says(store, tmp_path, monkeypatch):
    for error, reason in [(OSError(5, "Input/output error"), "Input/output error"), (OSError(), "OSError")]:

        def fail(*_, error=error):
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(LocalFiles, "read", fail)
            assert {finding.reason for finding in store.verify()} == {f"it cannot be read: {reason}"}


def test_a_store_that_is_not_there_yet_has_no_damage(tmp_path):
    assert ska.SnapshotStore(tmp_path / "nothing").verify() == []


def test_what_is_not_ours_is_ignored_and_listed(store, tmp_path):
    before = store.read()
    day = files_of(tmp_path)[0].parent
    foreign = [
        tmp_path / "README.md",
        tmp_path / "notesX",
        tmp_path / "observed_date=2026-13-01",
        tmp_path / "observed_date=20261102",
        tmp_path / "cohort",
        day / "x.parquet",
        day / "x.parquet.tmp",
        day / (files_of(tmp_path)[0].name + ".bak"),
        day / "subX",
    ]
    for path in foreign:
        path.mkdir() if path.suffix == "" else path.write_bytes(b"x")
    (day / ".tmp-0123").write_bytes(b"half")
    other = pd.DataFrame({"a": [1]}).to_parquet()
    path = day / f"{files_of(tmp_path)[0].name.rpartition('-')[0]}-{zlib.crc32(other):08x}.parquet"
    path.write_bytes(other)
    pd.testing.assert_frame_equal(store.read(), before)
    found = store.verify()
    assert {finding.path for finding in found} == {str(path) for path in [*foreign, day / ".tmp-0123", path]}
    assert not any(finding.is_damage for finding in found)
    origin = "ignored: a Parquet file of another origin: its footer has no schema version"
    half = "ignored: a write that is under way, or was interrupted; compact() removes it after a day"
    assert {finding.path: finding.reason for finding in found} == {
        **{str(place): "ignored: no part of a store" for place in foreign[:5]},
        **{str(place): "ignored: not named like a snapshot" for place in foreign[5:]},
        str(day / ".tmp-0123"): half,
        str(path): origin,
    }
    store.compact()
    assert all(path.exists() for path in foreign)


def test_a_file_in_the_place_of_another_cohort_is_damage_that_is_named(store, tmp_path):
    store.append(fleet(2))
    store.compact()
    source = next(path for path in files_of(tmp_path, "cohorts") if path.name.startswith("2026-11-02"))
    other = source.with_name(source.name.replace("2026-11-02", "2026-11-09", 1))
    source.rename(other)
    for read in everything(store)[:2]:
        with pytest.raises(ska.DamagedFile, match="it was written as 2026-11-02_"):
            read()
    assert [finding.path for finding in store.verify() if finding.is_damage] == [str(other)]


def test_a_file_in_the_other_folder_is_damage(store, tmp_path):
    (tmp_path / "cohorts").mkdir()
    source = files_of(tmp_path)[0]
    source.rename(tmp_path / "cohorts" / source.name)
    with pytest.raises(ska.DamagedFile, match="it belongs in another folder than cohorts/"):
        store.read()


def test_links_to_files_and_folders_elsewhere_are_read(store, tmp_path, tmp_path_factory):
    before = store.read()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = files_of(tmp_path)[0]
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere / path.name)
    pd.testing.assert_frame_equal(store.read(), before)
    shutil.move(path.parent, elsewhere)
    path.parent.symlink_to(elsewhere / path.parent.name)
    pd.testing.assert_frame_equal(store.read(), before)


def test_files_and_folders_are_private_to_the_user(tmp_path):
    old = os.umask(0o000)
    try:
        store = ska.SnapshotStore(tmp_path / "a" / "b")
        store.append(observations(10))
        store.append(observations(10))
        assert store.compact().cohorts == 1
    finally:
        os.umask(old)
    for path in (tmp_path / "a").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_nothing_from_a_batch_or_policy_becomes_part_of_a_path(tmp_path):
    store = ska.SnapshotStore(tmp_path / "snapshots")
    evil = "../../../evil/\x00\n%2e"
    frame = observations(4).assign(
        batch_id=[f"{evil}{i}" for i in range(4)], policy_id=evil, policy_version=evil
    )
    store.append(frame)
    store.append(frame)
    assert [path.name for path in tmp_path.iterdir()] == ["snapshots"]
    names = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")]
    assert not any("evil" in name for name in names)
    pd.testing.assert_frame_equal(store.read(), expected(frame))
