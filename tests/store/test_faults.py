"""Every system call of append and compact fails in turn: old state or new state, never between."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import pickle
import shutil
import sys

import pytest

import safetykit_analytics as ska
from tests.store.faults import Crash, FaultyOs, PowerCut, instead_of_os
from tests.store.helpers import START, files_of, fleet, keys

OLD = START - dt.timedelta(days=200)
FLEET = fleet(2, per_day=2, hours=12, start=OLD)
FIRST, SECOND = FLEET.iloc[:24], FLEET.iloc[24:]  # of one cohort, of both


def keys_of(*frames):
    return {key for frame in frames for key in keys(frame)}


def found_in(folder):
    """Read a store with the real operating system; damage would be an error."""
    result = keys(ska.SnapshotStore(folder).read())
    assert len(result) == len(set(result))
    return set(result)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Prepare a store that has the first frame twice."""
    folder = tmp_path_factory.mktemp("template")
    for _ in range(2):
        ska.SnapshotStore(folder).append(FIRST)
    return folder


def make(folder, template, situation):
    """Prepare a store: not there yet, nor the folder that it is in, or as the template. Gives its keys."""
    shutil.rmtree(folder.parent, ignore_errors=True)
    if situation == "new":
        return set()
    shutil.copytree(template, folder)
    return keys_of(FIRST)


def act(folder, action):
    store = ska.SnapshotStore(folder)
    store.append(SECOND) if action == "append" else store.compact()


def act_well(folder, action):
    with instead_of_os(FaultyOs()) as calls:
        act(folder, action)
    return calls


CASES = [("new", "append"), ("old", "append"), ("old", "compact")]


# Every sixth call on ordinary days, the others with the heavy tests.
STEP = 6
EVERY_CALL = pytest.mark.parametrize(
    "first", [1, *(pytest.param(first, marks=pytest.mark.heavy) for first in range(2, STEP + 1))]
)


def number_of_calls(folder, template, situation, action):
    make(folder, template, situation)
    calls = act_well(folder, action).calls
    assert {"link", "fsync", "write", "unlink" if action == "compact" else "mkdir"} <= set(calls)
    return len(calls)


@EVERY_CALL
@pytest.mark.parametrize(("situation", "action"), CASES)
@pytest.mark.parametrize("how", [errno.ENOSPC, pytest.param(errno.EIO, marks=pytest.mark.heavy)])
def test_a_call_that_fails_leaves_the_old_state_or_the_new_one_and_a_typed_error(
    tmp_path, template, situation, action, how, *, first
):
    folder = tmp_path / "parent" / "store"
    n_errors = 0
    calls_to_fail = range(first, number_of_calls(folder, template, situation, action) + 1, STEP)
    for n in calls_to_fail:
        before = make(folder, template, situation)
        after = before | (keys_of(SECOND) if action == "append" else set())
        error = None
        with instead_of_os(FaultyOs(n, how)) as calls, contextlib.suppress(Crash):
            try:
                act(folder, action)
            except ska.errors.StoreFailed as raised:
                error = raised
        assert found_in(folder) == (before if error else after), calls.calls[:n]
        if error:
            n_errors += 1
            assert error.errno == how
            assert os.strerror(how) in str(error)
            assert str(folder) in str(error)
        if calls.calls[n - 1] != "unlink":
            assert list(folder.rglob(".tmp-*")) == [], calls.calls[:n]
    assert n_errors > len(calls_to_fail) / 2


@EVERY_CALL
@pytest.mark.parametrize(("situation", "action"), CASES)
def test_a_crash_at_any_call_leaves_the_old_state_or_the_new_one_and_repeating_completes_it(
    tmp_path, template, situation, action, first
):
    folder = tmp_path / "parent" / "store"
    for n in range(first, number_of_calls(folder, template, situation, action) + 1, STEP):
        before = make(folder, template, situation)
        after = before | (keys_of(SECOND) if action == "append" else set())
        with instead_of_os(FaultyOs(n, Crash)), pytest.raises(Crash):
            act(folder, action)
        assert found_in(folder) in (before, after)
        act_well(folder, action)
        act_well(folder, "compact")
        assert files_of(folder, "recent") == []
        assert len(files_of(folder, "cohorts")) == len(ska.SnapshotStore(folder).cohorts())
        assert found_in(folder) == after


@pytest.mark.skipif(sys.platform != "linux", reason="reads back what was synced through /proc")
@EVERY_CALL
@pytest.mark.parametrize("names_survive", [False, True])
@pytest.mark.parametrize(("situation", "action"), CASES)
def test_a_power_cut_at_any_call_loses_nothing_that_was_acknowledged(
    tmp_path, template, situation, action, names_survive, *, first
):
    disk, later = tmp_path / "disk", tmp_path / "later"
    disk.mkdir()
    folder = disk / "deep" / "store"
    n_calls = number_of_calls(folder, template, situation, action)
    # The last one is cut after all was acknowledged.
    for n in (*range(first, n_calls + 1, STEP), n_calls + 1):
        before = make(folder, template, situation)
        after = before | (keys_of(SECOND) if action == "append" else set())
        power = PowerCut(disk, fail_at=n, how=Crash)
        with instead_of_os(power):
            try:
                act(folder, action)
                acknowledged = True
            except Crash:
                acknowledged = False
        assert acknowledged == (n > n_calls)
        shutil.rmtree(later, ignore_errors=True)
        power.after(later, names_survive=names_survive)
        found = found_in(later / "deep" / "store")
        assert before <= found <= after, power.calls
        if acknowledged:
            assert found == after


def test_without_the_folder_sync_a_power_cut_would_lose_data(tmp_path, template, monkeypatch):
    """The power cut that the test above makes is one that bites."""
    from safetykit_analytics.store import local

    monkeypatch.setattr(local, "_sync_folder", lambda folder: None)
    disk, later = tmp_path / "disk", tmp_path / "later"
    make(disk / "store", template, "old")
    with instead_of_os(PowerCut(disk)) as power:
        act(disk / "store", "append")
    power.after(later, names_survive=False)
    assert found_in(later / "store") == keys_of(FIRST)


@pytest.mark.parametrize("size", [1, 1000])
def test_short_writes_are_continued(tmp_path, size):
    with instead_of_os(FaultyOs(write_at_most=size)):
        act(tmp_path, "append")
    assert found_in(tmp_path) == keys_of(SECOND)


@pytest.mark.parametrize("size", [1000, 100_000])
def test_short_reads_are_continued(tmp_path, size):
    class ShortReads(FaultyOs):
        def __getattr__(self, name):
            if name == "read":
                return lambda file, n: os.read(file, min(n, size))
            return super().__getattr__(name)

    act(tmp_path, "append")
    with instead_of_os(ShortReads()):
        assert found_in(tmp_path) == keys_of(SECOND)


def test_a_file_system_without_hard_links_is_written_by_renaming(tmp_path):
    class NoLinks(FaultyOs):
        def __getattr__(self, name):
            def refuse(*args):
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

            return refuse if name == "link" else super().__getattr__(name)

    with instead_of_os(NoLinks()):
        act(tmp_path, "append")
        act(tmp_path, "append")
        act(tmp_path, "compact")
    assert found_in(tmp_path) == keys_of(SECOND)
    assert list(tmp_path.rglob(".tmp-*")) == []


@pytest.mark.parametrize(
    ("code", "place"), [(errno.EIO, "free"), (errno.EPERM, "taken"), (errno.EEXIST, "taken")]
)
def test_a_file_is_renamed_only_where_there_are_no_links_and_never_over_another(tmp_path, code, place):
    from safetykit_analytics.store.local import _link

    for name in ("new", "taken"):
        (tmp_path / name).write_text(name)

    class Refusing(FaultyOs):
        def __getattr__(self, name):
            def refuse(*args):
                raise OSError(code, os.strerror(code))

            return refuse if name == "link" else super().__getattr__(name)

    with instead_of_os(Refusing()), pytest.raises(OSError, match=os.strerror(code)):
        _link(str(tmp_path / "new"), str(tmp_path / place))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"new": "new", "taken": "taken"}


def test_a_parent_that_may_not_be_opened_does_not_keep_a_store_from_being_made(tmp_path):
    class Closed(FaultyOs):
        def __getattr__(self, name):
            def refuse(path, *args):
                if path == str(tmp_path):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
                return os.open(path, *args)

            return refuse if name == "open" else super().__getattr__(name)

    with instead_of_os(Closed()):
        act(tmp_path / "store", "append")
    assert found_in(tmp_path / "store") == keys_of(SECOND)


def test_a_file_is_first_written_beside_its_place_where_it_can_be_linked_from(tmp_path):
    links = []

    class Watching(FaultyOs):
        def made(self, name, result, args):
            if name == "link":
                links.append(args)
            return result

    with instead_of_os(Watching()):
        act(tmp_path, "append")
    assert links
    for temporary, place in links:
        assert os.path.dirname(temporary) == os.path.dirname(place)
        assert os.path.basename(temporary).startswith(".tmp-")


def test_a_temporary_that_someone_else_has_removed_is_no_error(tmp_path):
    class Tidy(FaultyOs):
        def made(self, name, result, args):
            if name == "link":
                os.unlink(args[0])
            return result

    with instead_of_os(Tidy()):
        act(tmp_path, "append")
    assert found_in(tmp_path) == keys_of(SECOND)


@pytest.fixture
def folder(tmp_path, template):
    folder = tmp_path / "parent" / "store"
    make(folder, template, "old")
    return folder


def test_publishing_never_replaces_a_file_that_has_the_name(folder, monkeypatch):
    from safetykit_analytics.store import parquet

    taken = files_of(folder)[0]
    content = taken.read_bytes()
    monkeypatch.setattr(parquet, "file_path", lambda *_: f"recent/{taken.name}")
    with pytest.raises(ska.errors.StoreFailed, match="exists"):
        act(folder, "append")
    assert taken.read_bytes() == content
    assert found_in(folder) == keys_of(FIRST)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("action", ["append", "compact"])
def test_a_read_only_folder_is_a_clear_error(folder, action):
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o500)
    try:
        with pytest.raises(ska.errors.StoreFailed, match=f"cannot {action} .*: Permission denied"):
            act(folder, action)
        assert found_in(folder) == keys_of(FIRST)
    finally:
        for path in folders:
            path.chmod(0o700)


@pytest.mark.parametrize("what", ["append to", "list", "list ", " list"])
def test_an_error_says_what_it_stopped_and_where(folder, what):
    store = ska.SnapshotStore(folder)
    acts = {
        "append to": lambda: store.append(SECOND),
        "list": store.read,
        "list ": store.compact,
        " list": store.verify,
    }
    with instead_of_os(FaultyOs(1, errno.EIO)), pytest.raises(ska.errors.StoreFailed) as caught:
        acts[what]()
    assert f"cannot {what.strip()} {folder}: Input/output error" in str(caught.value)


def test_what_a_store_shows_of_itself_says_why_it_cannot(folder):
    for show in (repr, ska.SnapshotStore._repr_html_):
        with instead_of_os(FaultyOs(1, errno.EIO)):
            assert f"StoreFailed: [Errno 5] cannot list {folder}: Input/output error" in show(
                ska.SnapshotStore(folder)
            )


def test_a_keyboard_interrupt_while_writing_leaves_nothing(folder):
    class Interrupted(FaultyOs):
        def made(self, name, result, args):
            if name == "fsync":
                raise KeyboardInterrupt
            return result

    with instead_of_os(Interrupted()), pytest.raises(KeyboardInterrupt):
        act(folder, "append")
    assert found_in(folder) == keys_of(FIRST)
    assert list(folder.rglob(".tmp-*")) == []


@pytest.mark.parametrize("error", [ska.errors.StoreFailed(28, "m", "f"), ska.DamagedFile("m", path="f")])
def test_errors_cross_process_pools_with_all_they_say(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert (again.errno, again.filename, vars(again)) == (error.errno, error.filename, vars(error))
