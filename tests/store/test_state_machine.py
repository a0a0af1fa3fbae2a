"""A store is a set: whatever is done to it, in whatever order, it holds what a Python set would hold."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import pathlib
import shutil
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import safetykit_analytics as ska
from tests.store.faults import Crash, FaultyOs, instead_of_os
from tests.store.helpers import START, files_of, fleet, keys

# Four cohorts and batches without one, of which some never end.
FRAME = fleet(4, per_day=2, hours=6, start=START - dt.timedelta(days=90), stuck={3}).iloc[:64]
FRAME.loc[FRAME.index % 7 == 0, "batch_id"] = "ticket"
FRAME = FRAME.drop_duplicates(["batch_id", "observed_at"], ignore_index=True)
FRAME["success_count"] = range(len(FRAME))
KEYS = keys(FRAME)
rows = st.lists(st.integers(0, len(FRAME) - 1), min_size=1, max_size=12)


class StoreIsASet(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="store-"))
        self.store = ska.SnapshotStore(self.folder)
        self.model = set()
        self.last = [0]
        # The same calls as in earnest, but nobody waits for the disk.
        self.quick = contextlib.ExitStack()
        self.quick.enter_context(instead_of_os(FaultyOs()))

    def teardown(self):
        self.quick.close()
        shutil.rmtree(self.folder)

    def found(self):
        result = keys(self.store.read())
        assert result == sorted(set(result))
        return set(result)

    @rule(rows=rows)
    def append(self, rows):
        assert self.store.append(FRAME.iloc[rows]) == len(set(rows))
        self.model |= {KEYS[row] for row in rows}
        self.last = rows

    @rule()
    def append_the_same_again(self):
        self.append(self.last)

    @rule(rows=rows)
    def append_out_of_order(self, rows):
        self.append(sorted(rows, reverse=True))

    @rule(thin=st.booleans())
    def compact(self, thin):
        # No two observations of a batch in a row are alike here, so thinning has nothing to drop.
        assert self.store.compact(thin_before=START if thin else None).thinned == 0
        assert len(files_of(self.folder, "recent")) <= 1
        kinds = [path.name.partition("_")[0] for path in files_of(self.folder, "cohorts")]
        assert len(kinds) == len(set(kinds))

    @rule(rows=rows, call=st.integers(1, 60))
    def crash_while_appending(self, rows, call):
        with instead_of_os(FaultyOs(call, Crash)):
            try:
                self.store.append(FRAME.iloc[rows])
                crashed = False
            except Crash:
                crashed = True
        wanted = self.model | {KEYS[row] for row in rows}
        found = self.found()
        assert self.model <= found <= wanted
        assert crashed or found == wanted
        self.model = found

    @rule(call=st.integers(1, 120))
    def crash_while_compacting(self, call):
        with instead_of_os(FaultyOs(call, Crash)), contextlib.suppress(Crash):
            self.store.compact()

    @rule(rows=rows, call=st.integers(1, 60), errno=st.sampled_from([5, 28]))
    def run_out_of_disk_while_appending(self, rows, call, errno):
        with instead_of_os(FaultyOs(call, errno)):
            try:
                self.store.append(FRAME.iloc[rows])
            except ska.errors.StoreFailed:
                return
        self.model |= {KEYS[row] for row in rows}

    @rule()
    def reopen(self):
        self.store = ska.SnapshotStore(str(self.folder))

    @rule(day=st.integers(-1, 5), n=st.integers(0, 3))
    def read_some_days(self, day, n):
        start = (START - dt.timedelta(days=90 - day)).date()
        end = start + dt.timedelta(days=n)
        low, high = (
            int(dt.datetime(d.year, d.month, d.day, tzinfo=dt.UTC).timestamp()) * 10**6 for d in (start, end)
        )
        found = keys(self.store.read(start, end))
        assert found == sorted(key for key in self.model if low <= key[1] < high)

    @rule()
    def latest(self):
        newest = dict(sorted(self.model))
        assert keys(self.store.latest()) == sorted(newest.items())

    @rule()
    def open_batches(self):
        last = (
            FRAME.iloc[[KEYS.index(key) for key in sorted(self.model)]]
            .groupby("batch_id")["is_terminal"]
            .last()
        )
        assert self.store.open_batch_ids() == sorted(last.index[~last.astype(bool)])

    @rule(ids=st.lists(st.sampled_from(sorted(set(FRAME["batch_id"]))), max_size=3))
    def read_some_batches(self, ids):
        found = keys(self.store.read(batch_ids=ids))
        assert found == sorted(key for key in self.model if key[0] in ids)

    @rule()
    def verify(self):
        assert not any(finding.is_damage for finding in self.store.verify())

    @invariant()
    def the_store_holds_what_the_set_holds(self):
        assert self.found() == self.model


def test_a_store_holds_what_a_set_would_hold():
    run_state_machine_as_test(
        StoreIsASet, settings=settings(max_examples=5, stateful_step_count=14, deadline=None)
    )


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_a_store_holds_what_a_set_would_hold_for_long():
    n = max(1, round(300 * float(os.environ.get("SKA_HEAVY", "1.0"))))
    run_state_machine_as_test(
        StoreIsASet, settings=settings(max_examples=n, stateful_step_count=50, deadline=None)
    )
