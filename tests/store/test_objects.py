"""A store in an object store: the same promises, as far as one PUT per file can keep them."""

from __future__ import annotations

import datetime as dt
import pickle
import socket
import uuid
from unittest import mock

import fsspec
import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.store import parquet
from safetykit_analytics.store.local import LocalFiles
from tests.store.helpers import START, expected, fleet, observations

OLD = START - dt.timedelta(days=200)
SECRET = "wJalrXUtnFEMI-not-to-be-shown"


def options(endpoint):
    return {
        "key": "AKIA",
        "secret": SECRET,
        "client_kwargs": {"endpoint_url": endpoint},
    }


@pytest.fixture(params=["s3", "memory"])
def place(request):
    """Give a URL that is new, and the options for it."""
    name = uuid.uuid4().hex
    if request.param == "memory":
        return f"memory://{name}/snapshots", None
    chosen = options(request.getfixturevalue("s3_endpoint"))
    fsspec.filesystem("s3", **chosen).mkdir(name)
    return f"s3://{name}/team/snapshots", chosen


@pytest.fixture
def store(place):
    return ska.SnapshotStore(place[0], storage_options=place[1])


def names(place):
    fs, root = fsspec.url_to_fs(place[0], use_listings_cache=False, **(place[1] or {}))
    return [path[len(root) :].lstrip("/") for path in fs.find(root)]


def test_append_read_compact_and_verify_as_in_a_folder(store, place):
    assert store.read().empty
    assert store.open_batch_ids() == []
    frame = observations(300, start=OLD)
    assert store.append(frame.iloc[:200]) == 200
    assert store.append(frame.iloc[100:]) == 200
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    pd.testing.assert_frame_equal(store.latest(), expected(frame.iloc[-10:]))
    assert len(names(place)) == 3  # and the marker
    report = store.compact()
    assert (report.duplicates, report.temporaries) == (100, 0)
    assert sum(name.endswith(".parquet") for name in names(place)) == 1
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    assert store.verify() == []
    assert "1 file, 1 cohort, 300 observations, 10 batches, 10 open" in repr(store)


def test_what_another_process_appends_is_seen_at_once(store, place):
    other = ska.SnapshotStore(place[0], storage_options=place[1])
    frame = observations(100, start=OLD)
    assert other.read().empty
    store.append(frame.iloc[:50])
    assert len(other.read()) == 50
    store.append(frame.iloc[50:])
    assert len(other.read()) == 100


def files(place):
    return [name for name in names(place) if name.endswith(".parquet")]


def test_cohorts_from_before_a_compaction_say_that_the_store_has_changed(store):
    store.append(fleet(1))
    store.compact()
    store.append(fleet(1, hours=50))
    (cohort,) = pickle.loads(pickle.dumps(store.cohorts()))
    store.compact()
    with pytest.raises(ska.errors.StoreChanged):
        list(cohort.tables())


def test_an_object_that_exists_is_never_replaced(store, place, monkeypatch):
    frame = observations(10, start=OLD)
    store.append(frame)
    (name,) = files(place)
    monkeypatch.setattr(parquet, "file_path", lambda *_: name)
    with pytest.raises(ska.errors.StoreFailed):
        store.append(frame.assign(success_count=99))
    pd.testing.assert_frame_equal(store.read(), expected(frame))


def test_an_append_that_fails_takes_back_what_it_had_put(store, place):
    frame = observations(3000, start=OLD)
    fs = fsspec.url_to_fs(place[0], use_listings_cache=False, **(place[1] or {}))[0]
    put = fs.pipe_file

    def lose_the_answer(path, value, **kwargs):
        put(path, value, **kwargs)
        if path.endswith(".parquet"):
            raise OSError(5, "Input/output error")

    # fsspec keeps this object: unlike monkeypatch, mock leaves nothing of its own on it.
    with (
        mock.patch.object(fs, "pipe_file", lose_the_answer),
        pytest.raises(ska.errors.StoreFailed, match="Input/output error"),
    ):
        store.append(frame)
    assert files(place) == []
    assert store.append(frame) == 3000


def test_damage_and_foreign_objects_are_found(store, place):
    store.append(observations(100, start=OLD))
    fs, root = fsspec.url_to_fs(place[0], use_listings_cache=False, **(place[1] or {}))
    (name,) = files(place)
    data = fs.cat_file(f"{root}/{name}")
    fs.pipe_file(f"{root}/README.md", b"hello")
    fs.pipe_file(f"{root}/{name}", data[:50] + bytes([data[50] ^ 4]) + data[51:])
    with pytest.raises(ska.DamagedFile, match=name.rpartition("/")[2]):
        store.read()
    assert [(finding.path.rpartition("/")[2], finding.is_damage) for finding in store.verify()] == [
        ("README.md", False),
        (name.rpartition("/")[2], True),
    ]


def test_a_snapshot_in_a_folder_within_a_folder_is_not_read_and_listed(store, place):
    store.append(observations(100, start=OLD))
    fs, root = fsspec.url_to_fs(place[0], use_listings_cache=False, **(place[1] or {}))
    (name,) = files(place)
    day, _, last = name.partition("/")
    fs.pipe_file(f"{root}/{day}/old/{last}", fs.cat_file(f"{root}/{name}"))
    assert store.info().files == 1
    assert [(finding.path.rpartition("snapshots/")[2], finding.reason) for finding in store.verify()] == [
        (f"{day}/old/{last}", "ignored: not named like a snapshot")
    ]


def test_what_is_directly_below_a_prefix_is_listed_alike_with_and_without_the_files_in_its_folders(
    store, place
):
    store.append(observations(3000, start=OLD))
    fs, root = fsspec.url_to_fs(place[0], use_listings_cache=False, **(place[1] or {}))
    fs.pipe_file(f"{root}/X", b"hello")
    files = store._files
    assert files.tree(None)[""] == files.tree(lambda _: True)[""]
    assert "X" in files.tree(None)[""]
    assert "recent/" in files.tree(None)[""]


def test_every_compaction_changes_the_generation_that_all_see(store, place):
    files, others = (ska.SnapshotStore(place[0], storage_options=place[1])._files for _ in range(2))
    seen = [others.generation()]
    for _ in range(3):
        files.renew_generation()
        assert files.generation() == others.generation()
        assert others.generation() not in seen
        seen.append(others.generation())


def test_a_file_that_is_not_there_has_no_bytes(store, tmp_path):
    store.append(observations(10, start=OLD))
    assert store._files.total_size(["nothing"]) == 0
    assert LocalFiles(str(tmp_path)).total_size(["nothing"]) == 0


class NoCredentials(Exception):  # noqa: N818 -- as client libraries name theirs
    """What a client library raises of its own."""


@pytest.mark.parametrize(
    ("method", "act", "path"),
    [
        ("find", lambda files: files.tree(lambda _: True), ""),
        ("ls", lambda files: files.tree(None), ""),
        ("cat_file", lambda files: files.read("a"), "/a"),
        ("cat_file", lambda files: files.generation(), "/.safetykit-store/generation"),
        ("pipe_file", lambda files: files.renew_generation(), ""),
        ("pipe_file", lambda files: files.publish("a", b""), "/a"),
        ("find", lambda files: files.total_size(["a"]), ""),
        ("pipe_file", lambda files: files.create(), ""),
        ("rm_file", lambda files: files.remove(["a"]), "/a"),
        ("_strip_protocol", lambda files: files.read("a"), ""),
    ],
)
def test_what_a_client_library_raises_of_its_own_becomes_an_error_that_says_where(
    method, act, path, monkeypatch
):
    def refuse(*args, **kwargs):
        raise NoCredentials(SECRET)

    url = f"memory://{uuid.uuid4().hex}/snapshots"
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), method, refuse)
    with pytest.raises(OSError, match="NoCredentials") as caught:
        act(ska.SnapshotStore(url)._files)
    assert caught.value.filename == url + path
    assert SECRET not in str(caught.value)


def test_a_store_whose_options_fit_no_client_shows_itself_all_the_same(monkeypatch):
    def refuse(*args, **kwargs):
        raise TypeError(f"unexpected keyword argument {SECRET}")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "find", refuse)
    store = ska.SnapshotStore(f"memory://{uuid.uuid4().hex}/snapshots")
    for shown in (repr(store), store._repr_html_()):
        assert "TypeError" in shown
        assert SECRET not in shown


def test_what_stopped_an_append_is_said_and_not_what_stopped_cleaning_up(monkeypatch):
    def refuse(what):
        def call(*args, **kwargs):
            raise OSError(5, what)

        return call

    memory = fsspec.get_filesystem_class("memory")
    monkeypatch.setattr(memory, "pipe_file", refuse("first"))
    monkeypatch.setattr(memory, "rm_file", refuse("second"))
    store = ska.SnapshotStore(f"memory://{uuid.uuid4().hex}/snapshots")
    with pytest.raises(ska.errors.StoreFailed, match="first"):
        store.append(observations(10))


@pytest.mark.parametrize("url", ["s3://", "memory:///"])
def test_a_url_that_names_no_place_is_refused(url):
    with pytest.raises(ValueError, match="names no place"):
        ska.SnapshotStore(url)


@pytest.mark.parametrize("url", ["s3://bucket//snapshots", "s3://bucket/a//b", "s3://bucket/snapshots//x"])
def test_a_url_with_an_empty_part_is_refused(url):
    with pytest.raises(ValueError, match="an empty part between two slashes"):
        ska.SnapshotStore(url)


def test_a_folder_that_was_made_in_the_console_of_s3_is_empty(s3_endpoint):
    # It is an object of no bytes whose name ends in a slash.
    name = uuid.uuid4().hex
    s3 = fsspec.filesystem("s3", **options(s3_endpoint))
    s3.mkdir(name)
    for folder in ("snapshots/",):
        s3.call_s3("put_object", Bucket=name, Key=folder, Body=b"")
        store = ska.SnapshotStore(f"s3://{name}/snapshots", storage_options=options(s3_endpoint))
        assert store.read().empty
        assert store.verify() == []
    assert store.append(observations(10, start=OLD)) == 10
    assert store.append(observations(10, start=OLD)) == 10
    assert store.compact().files_after == 1
    assert len(store.read()) == 10
    assert store.verify() == []


def test_a_prefix_that_holds_something_else_is_refused(store, place):
    fs, root = fsspec.url_to_fs(place[0], use_listings_cache=False, **(place[1] or {}))
    fs.pipe_file(f"{root}/thesis.docx", b"precious")
    for act in (store.read, store.info, lambda: store.append(observations(3))):
        with pytest.raises(ska.NotAStore):
            act()
    assert names(place) == ["thesis.docx"]


def test_a_bucket_that_is_not_there_is_an_error_when_written(s3_endpoint):
    store = ska.SnapshotStore("s3://no-such-bucket/snapshots", storage_options=options(s3_endpoint))
    with pytest.raises(ska.errors.StoreFailed, match="cannot append to s3://no-such-bucket/snapshots"):
        store.append(observations(3))


def test_a_server_that_is_not_there_is_a_typed_error_without_secrets():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        chosen = options(f"http://127.0.0.1:{unused.getsockname()[1]}")
    chosen["config_kwargs"] = {"retries": {"max_attempts": 0}, "connect_timeout": 1}
    store = ska.SnapshotStore("s3://user:hidden@bucket/snapshots", storage_options=chosen)
    with pytest.raises(ska.errors.StoreFailed, match="s3://bucket/snapshots") as caught:
        store.read()
    for text in (str(caught.value), repr(store), store._repr_html_(), repr(store._files)):
        assert SECRET not in text
        assert "hidden" not in text


def test_storage_options_for_a_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match="storage_options"):
        ska.SnapshotStore(tmp_path, storage_options={"key": "x"})


def test_a_file_url_is_a_folder(tmp_path):
    ska.SnapshotStore(f"file://{tmp_path}/snapshots").append(observations(10))
    assert len(ska.SnapshotStore(tmp_path / "snapshots").read()) == 10
