"""Processes that append, compact, read and are killed. Run as a script, which forks before any thread exists.

python -m tests.store.processes kill FOLDER N      kills of writers and compactors, prints what was found
python -m tests.store.processes append FOLDER N    8 writers of N appends each
python -m tests.store.processes read FOLDER N      N reads beside 2 writers and a compactor
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import signal
import sys
import time
from collections import Counter

# One thread, so that forking is safe: no pool of any library may have started before.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}

from safetykit_analytics import SnapshotStore
from safetykit_analytics.errors import StoreChanged
from tests.store.helpers import START, batch_id, keys, observations

ROWS = 10
OLD = START - dt.timedelta(days=200)
IDS = [batch_id(OLD + dt.timedelta(days=day), day) for day in range(3)]


def frame_of(token):
    """Give the observations of one append: of three cohorts and undated, with keys of its own."""
    frame = observations(ROWS, start=OLD + dt.timedelta(days=3), n_batches=5)
    at = frame["observed_at"] + dt.timedelta(microseconds=token)
    ids = [*IDS, f"ticket_{token}", f"batch_{token}"]
    return frame.assign(observed_at=at, batch_id=[ids[i % 5] for i in range(ROWS)], error_count=token)


def keys_of(tokens):
    return {key for token in tokens for key in keys(frame_of(token))}


def tokens_of(frame):
    """Count the rows of each token."""
    return frame["error_count"].value_counts().to_dict()


def tokens_in(folder):
    """Read the whole store; give the tokens of which all rows are there, and whether any key was twice."""
    frame = SnapshotStore(folder).read()
    result = keys(frame)
    whole = {token for token, n in tokens_of(frame).items() if n == ROWS}
    return whole, len(result) - len(set(result))


def forked(task):
    """Run a function in a child; give its process id and a pipe with what it writes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    status = 1
    try:
        os.close(reader)
        task(writer)
        status = 0
    except BaseException:  # noqa: BLE001 -- a child must not run on into its parent's code
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def first_line(reader):
    """Wait for the first number that a child says, and leave what follows."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(reader, 1)
        assert byte, "the child said nothing"
        line += byte
    return int(line)


def said(reader):
    """Read all that a child has written: the numbers of its lines."""
    with os.fdopen(reader, "rb") as pipe:
        return [int(line) for line in pipe.read().split()]


def say(line):
    sys.stdout.write(line + "\n")


def require_success(child):
    _, status = os.waitpid(child, 0)
    assert status == 0, status


def append_all(folder, tokens, writer):
    store = SnapshotStore(folder)
    for token in tokens:
        store.append(frame_of(token))
        os.write(writer, b"%d\n" % token)


def check(folder, acknowledged):
    def task(writer):
        whole, twice = tokens_in(folder)
        lost = len(set(acknowledged) - whole)
        damaged = sum(finding.is_damage for finding in SnapshotStore(folder).verify())
        os.write(writer, b"%d\n%d\n%d\n" % (lost, twice, damaged))

    child, reader = forked(task)
    result = said(reader)
    require_success(child)
    return result


def kill(folder, n):
    """Kill a writer or a compactor at a random moment, n times; nothing acknowledged may be missing ever."""
    draw = random.Random(n)
    acknowledged = []
    bad = [0, 0, 0]
    in_compaction = 0
    for i in range(n):

        def task(writer, i=i):
            compacts = i % 2
            os.write(writer, b"%d\n" % microseconds_of_an_append(f"{folder}.warm"))
            for round_ in range(10**6):
                token = i * 1000 + round_
                append_all(folder, [token], writer)
                if compacts:
                    SnapshotStore(folder).compact()

        child, reader = forked(task)
        # However busy the machine is, the kill comes somewhere within the first ten appends.
        typical_s = first_line(reader) / 1e6
        time.sleep(draw.uniform(0, 10 * typical_s))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        heard = said(reader)
        acknowledged += heard
        in_compaction += i % 2 and bool(heard)
        if i % 50 == 49 or i == n - 1:
            bad = [a + b for a, b in zip(bad, check(folder, acknowledged), strict=True)]
    say(f"{n} kills, {len(acknowledged)} appends acknowledged, {in_compaction} killed while compacting")
    say(f"{bad[0]} lost, {bad[1]} twice, {bad[2]} damaged")


def microseconds_of_an_append(folder):
    store = SnapshotStore(folder)
    store.append(frame_of(0))
    began = time.perf_counter()
    store.append(frame_of(0))
    return round(1e6 * (time.perf_counter() - began))


def append(folder, n):
    """Let 8 processes append n times each, all at once; the first of them creates the store."""
    children = []
    for i in range(8):
        tokens = range(i * n, (i + 1) * n)
        children.append(forked(lambda writer, tokens=tokens: append_all(folder, tokens, writer)))
    acknowledged = []
    for child, reader in children:
        acknowledged += said(reader)
        require_success(child)
    lost, twice, damaged = check(folder, acknowledged)
    say(f"{len(acknowledged)} appends acknowledged")
    say(f"{lost} lost, {twice} twice, {damaged} damaged")


def read(folder, n):
    """Read n times beside 2 writers and a compactor.

    What was acknowledged before a read is in it, once, and nothing that was not begun before its end.
    """
    logs = [f"{folder}.log{i}" for i in range(2)]
    stop, rounds = f"{folder}.stop", f"{folder}.rounds"
    open(rounds, "w").close()
    tasks = [lambda _, i=i: write_on(folder, i, logs[i], stop) for i in range(2)]
    others = [forked(task) for task in (*tasks, lambda _: compact_on(folder, stop, rounds))]
    reader_child, reader = forked(lambda pipe: look(folder, logs, rounds, n, pipe))
    n_reads, n_rounds, missing, twice, early = said(reader)
    open(stop, "w").close()
    require_success(reader_child)
    for child, _ in others:
        require_success(child)
    say(f"{n_reads} reads, {n_rounds} compactions meanwhile")
    say(f"{missing} missing, {twice} twice, {early} before they were begun")


def write_on(folder, i, log, stop):
    """Append until told to stop, but not for ever: reading ever more rows is not the point."""
    with open(log, "wb", buffering=0) as file, open(f"{log}.begun", "wb", buffering=0) as begun:
        for token in range(i * 10**6, i * 10**6 + 400):
            begun.write(b"%d\n" % token)
            append_all(folder, [token], file.fileno())
            if os.path.exists(stop):
                return
            time.sleep(0.05)


def compact_on(folder, stop, rounds):
    with open(rounds, "wb", buffering=0) as file:
        while not os.path.exists(stop):
            if SnapshotStore(folder).compact().files_after:
                file.write(b"x")


def calls(store):
    """Give what a store can be asked for, each as the number of rows that it tells of each token."""

    def cohorts():
        tables = [table for cohort in store.cohorts() for table in cohort.tables(["error_count"])]
        return [value for table in tables for value in table.column(0).to_pylist()]

    def some():
        ids = [
            *IDS,
            *(f"batch_{token + i * 10**6}" for token in range(400) for i in range(2)),
        ]
        rest = store.read(batch_ids=ids)["error_count"].tolist()
        return rest + [
            t for t in set(rest) for _ in range(2)
        ]  # a ticket has two rows that were not asked for

    def opened():
        tokens = [int(name.rpartition("_")[2]) for name in store.open_batch_ids() if name not in IDS]
        return tokens * (ROWS // 2)

    def error_counts():
        return store.read(columns=["error_count"])["error_count"].tolist()

    def everything():
        return store.read()["error_count"].tolist()

    return {
        "read": everything,
        "columns": error_counts,
        "one batch": some,
        "cohorts": cohorts,
        "open": opened,
        "latest": lambda: [
            token for token in store.latest()["error_count"].tolist() for _ in range(ROWS // 2)
        ],
    }


def look(folder, logs, rounds, n, pipe):
    """Ask n times, and on until some compactions fell into that time, however busy the machine is.

    What was acknowledged before a call is in its answer, once, nothing is there in part, and nothing that was
    not begun before the end of the call.
    """
    store = SnapshotStore(folder)
    n_reads = missing = twice = early = 0
    whole = {"read", "columns", "cohorts"}
    while n_reads < n or os.path.getsize(rounds) < 3:
        for name, call in calls(store).items():
            n_reads += 1
            before = logged(logs)
            try:
                counts = Counter(call())
            except StoreChanged:
                assert name == "cohorts"  # whoever reads cohorts lists them again
                continue
            early += len(set(counts) - logged([f"{log}.begun" for log in logs]))
            missing += len(before - set(counts)) if name != "latest" else 0
            twice += sum(count > ROWS for count in counts.values()) if name != "latest" else 0
            missing += sum(count < ROWS for count in counts.values()) if name in whole else 0
    os.write(pipe, b"%d\n%d\n%d\n%d\n%d\n" % (n_reads, os.path.getsize(rounds), missing, twice, early))


def logged(logs):
    """Read the tokens in some logs; a line that is being written does not count yet."""
    tokens = set()
    for log in logs:
        with contextlib.suppress(FileNotFoundError), open(log) as file:
            tokens |= {int(line) for line in file if line.endswith("\n")}
    return tokens


if __name__ == "__main__":
    {"kill": kill, "append": append, "read": read}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
