"""A store in an object store: the same promises, as far as one PUT per file can keep them."""

from __future__ import annotations

import datetime as dt
import pickle
import socket
import subprocess
import sys
import uuid

import fsspec
import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.store import snapshots
from tests.store.helpers import START, expected, observations

OLD = START - dt.timedelta(days=200)
SECRET = "wJalrXUtnFEMI-not-to-be-shown"


@pytest.fixture(scope="module")
def endpoint():
    """Start an S3 server on loopback, in a process of its own."""
    code = (
        "import sys, moto.server as m; s = m.ThreadedMotoServer(ip_address='127.0.0.1', port=0); s.start();"
        "print(s.get_host_and_port()[1], flush=True); sys.stdin.read(); s.stop()"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        port = next(line for line in server.stdout if line.strip().isdigit())
        yield f"http://127.0.0.1:{port.strip()}"
        server.stdin.close()


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
    chosen = options(request.getfixturevalue("endpoint"))
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
    frame = observations(3000, start=OLD)
    assert store.append(frame.iloc[:2000]) == 2000
    assert store.append(frame.iloc[1000:]) == 2000
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    pd.testing.assert_frame_equal(store.latest(), expected(frame.iloc[-10:]))
    assert len(names(place)) == 5
    report = store.compact()
    assert report.duplicates == 1000
    assert sum(name.endswith(".parquet") for name in names(place)) == 3
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    assert store.verify() == []
    assert "3 files, 3,000 observations, 10 batches, 3 days" in repr(store)


def test_what_another_process_appends_is_seen_at_once(store, place):
    other = ska.SnapshotStore(place[0], storage_options=place[1])
    frame = observations(100, start=OLD)
    assert other.read().empty
    store.append(frame.iloc[:50])
    assert len(other.read()) == 50
    store.append(frame.iloc[50:])
    assert len(other.read()) == 100


def test_a_list_from_before_a_compaction_still_reads_every_key_once(store):
    frame = observations(100, start=OLD)
    store.append(frame.iloc[:50])
    store.append(frame.iloc[50:])
    (part,) = pickle.loads(pickle.dumps(store.partitions()))
    store.compact()
    assert part.read(["batch_id"]).num_rows == 100


def test_an_object_that_exists_is_never_replaced(store, place, monkeypatch):
    frame = observations(10, start=OLD)
    store.append(frame)
    (name,) = (name.rpartition("/")[2] for name in names(place))
    monkeypatch.setattr(snapshots, "snapshot_name", lambda data: name)
    with pytest.raises(ska.errors.StoreFailed):
        store.append(frame.assign(success_count=99))
    pd.testing.assert_frame_equal(store.read(), expected(frame))


def test_an_append_that_fails_half_way_takes_back_what_it_had_put(store, place, monkeypatch):
    frame = observations(3000, start=OLD)
    fs = fsspec.url_to_fs(place[0], use_listings_cache=False, **(place[1] or {}))[0]
    put = fs.pipe_file
    count = iter(range(10))

    def fail_second(path, value, **kwargs):
        if next(count) == 1:
            raise OSError(5, "Input/output error")
        return put(path, value, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(fs, "pipe_file", fail_second)
        with pytest.raises(ska.errors.StoreFailed, match="Input/output error"):
            store.append(frame)
    assert names(place) == []
    assert store.append(frame) == 3000


def test_damage_and_foreign_objects_are_found(store, place):
    store.append(observations(100, start=OLD))
    fs, root = fsspec.url_to_fs(place[0], use_listings_cache=False, **(place[1] or {}))
    (name,) = names(place)
    data = fs.cat_file(f"{root}/{name}")
    fs.pipe_file(f"{root}/README.md", b"hello")
    fs.pipe_file(f"{root}/{name}", data[:50] + bytes([data[50] ^ 4]) + data[51:])
    with pytest.raises(ska.DamagedFile, match=name.rpartition("/")[2]):
        store.read()
    assert [(finding.path.rpartition("/")[2], finding.is_damage) for finding in store.verify()] == [
        ("README.md", False),
        (name.rpartition("/")[2], True),
    ]


def test_a_prefix_that_holds_something_else_is_refused(store, place):
    fs, root = fsspec.url_to_fs(place[0], use_listings_cache=False, **(place[1] or {}))
    fs.pipe_file(f"{root}/thesis.docx", b"precious")
    for act in (store.read, lambda: store.append(observations(3))):
        with pytest.raises(ska.NotAStore):
            act()
    assert names(place) == ["thesis.docx"]


def test_a_bucket_that_is_not_there_is_an_error_when_written(endpoint):
    store = ska.SnapshotStore("s3://no-such-bucket/snapshots", storage_options=options(endpoint))
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
