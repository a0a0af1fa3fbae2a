"""Every table beside processes that append and compact: each append whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import safetykit_analytics as ska
from tests.rates.helpers import HOUR, MONDAY, frame_of, row
from tests.rates.test_stores import DAY, batch_id

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    import pandas as pd


def append_of(token: int) -> pd.DataFrame:
    """Two batches of a version of their own: one has ended oddly, one stands still."""
    created = MONDAY - (1 + token % 40) * DAY
    known = {"policy_version": f"t{token}", "created_at": created}
    ended, stuck = batch_id(created, 2 * token), batch_id(created, 2 * token + 1)
    return frame_of(
        [
            row(ended, created + HOUR, 400, pending_count=600, **known),
            row(ended, created + 3 * HOUR, 990, 10, pending_count=3, batch_status="SUCCESS", **known),
            row(stuck, created + HOUR, 5, pending_count=7, **known),
            row(stuck, created + 5 * HOUR, 5, pending_count=7, **known),
        ]
    )


def by_version(table: pd.DataFrame, column: str) -> dict[str, float]:
    return table.groupby("policy_version")[column].sum().round(6).to_dict()


def version_of(batch: str) -> str:
    """The version of a batch, from the number in its id."""
    digits = "0123456789abcdefghjkmnpqrstvwxyz"
    return f"t{sum(digits.index(digit) << (5 * at) for at, digit in enumerate(reversed(batch[-4:]))) // 2}"


def counted(batches: Any) -> dict[str, float]:
    versions = [version_of(batch) for batch in batches]
    return {version: versions.count(version) for version in versions}


#: What each table tells of every append that it has seen.
TABLES: dict[str, tuple[float, Callable[[ska.SnapshotStore], dict[str, float]]]] = {
    "rates": (1005, lambda store: by_version(ska.rates(store, freq="1D"), "processed")),
    "rates auto": (1005, lambda store: by_version(ska.rates(store, freq="auto"), "processed")),
    "backlog": (
        7,
        lambda store: by_version(
            ska.backlog(store, freq="W", by="policy_version").groupby("policy_version").tail(1), "pending"
        ),
    ),
    "completion_time": (2, lambda store: by_version(ska.completion_time(store), "n_batches")),
    "stalled_batches": (1, lambda store: counted(ska.stalled_batches(store, idle="1h")["batch_id"])),
    "data_quality": (
        1,
        lambda store: counted(
            ska.data_quality(store).query("kind == 'terminal_with_pending'")["batch_id"].tolist()
        ),
    ),
    "read": (4, lambda store: by_version(store.read().assign(n=1), "n")),
    "latest": (2, lambda store: by_version(store.latest().assign(n=1), "n")),
    "open_batch_ids": (1, lambda store: counted(store.open_batch_ids())),
}


def write(folder: str, first: int, log: str) -> None:
    """Append token by token until the file `stop` is there; say which were begun and which are done."""
    store = ska.SnapshotStore(folder)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for token in range(first, first + 400):
        if os.path.exists(f"{folder}.stop"):
            return
        os.write(file, b"+%d\n" % token)
        store.append(append_of(token))
        os.write(file, b"-%d\n" % token)


def compact(folder: str) -> None:
    store = ska.SnapshotStore(folder)
    while not os.path.exists(f"{folder}.stop"):
        store.compact()


@pytest.fixture
def busy_store(tmp_path: pathlib.Path) -> Iterator[tuple[ska.SnapshotStore, Callable[[str], set[str]]]]:
    folder = tmp_path / "store"
    logs = [tmp_path / "log0", tmp_path / "log1"]
    store = ska.SnapshotStore(folder)
    store.append(append_of(999))

    def run(call: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", f"from tests.rates import test_race as race; race.{call}"],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )

    children = [run(f"write({str(folder)!r}, {at * 400}, {str(log)!r})") for at, log in enumerate(logs)]
    children.append(run(f"compact({str(folder)!r})"))

    def said(sign: str) -> set[str]:
        lines = [line for log in logs if log.exists() for line in log.read_text().splitlines(keepends=True)]
        return {"t999"} | {f"t{line[1:-1]}" for line in lines if line[0] == sign and line.endswith("\n")}

    try:
        yield store, said
    finally:
        (tmp_path / "store.stop").touch()
        codes = [child.wait() for child in children]
    assert codes == [0, 0, 0]


def check(busy_store: Any, n_rounds: int) -> None:
    store, said = busy_store
    for _ in range(n_rounds):
        for name, (whole, tell) in TABLES.items():
            done = said("-")
            found = tell(store)
            begun = said("+")
            assert done <= set(found) <= begun, name
            assert set(found.values()) == {whole}, name


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_five_hundred_tables_beside_writers_and_a_compactor_have_each_append_whole(busy_store: Any) -> None:
    check(busy_store, max(2, round(56 * float(os.environ.get("SKA_HEAVY", "1")))))
