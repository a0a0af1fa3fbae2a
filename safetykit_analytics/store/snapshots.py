"""The snapshot store: observations on disk, as a set of facts."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from safetykit_analytics.calendar import parse_instant, zone
from safetykit_analytics.errors import SafetyKitAnalyticsError, UnknownName
from safetykit_analytics.formatting import NONE
from safetykit_analytics.frame import table_from_frame
from safetykit_analytics.keys import sorted_unique
from safetykit_analytics.schema import OBSERVATION_SCHEMA
from safetykit_analytics.store.batches import open_ids
from safetykit_analytics.store.cohort import Cohort, known_columns, list_cohorts
from safetykit_analytics.store.compaction import Compaction, compact_store
from safetykit_analytics.store.files import open_files, typed_errors
from safetykit_analytics.store.inspection import Finding, StoreInfo, findings, summarize
from safetykit_analytics.store.listing import list_store, read_whole, stable_tree
from safetykit_analytics.store.names import MARKER, RECENT
from safetykit_analytics.store.parquet import encode
from safetykit_analytics.store.reading import check_times, frame_of, known_policies, read_latest, read_rows
from safetykit_analytics.store.recent import by_cohort
from safetykit_analytics.store.row_filter import RowFilter

if TYPE_CHECKING:
    import datetime as dt
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pandas as pd


class SnapshotStore:
    """Observations in a folder of plain Parquet files, or in an object store.

    A store is a set keyed by (``batch_id``, ``observed_at``): adding an observation twice changes
    nothing. What `append` has returned from survives crashes; any number of processes may append, read and
    compact at once.

    Parameters
    ----------
    path : str or path
        A folder, or an fsspec URL such as ``s3://bucket/snapshots``. It need not exist: it then reads as
        empty, and the first append creates it.
    storage_options : mapping, optional
        For URLs: what fsspec passes on, such as credentials. Never shown.

    Raises
    ------
    TypeError, ValueError
        No path; a URL that fsspec does not know; options for a folder.
    ModuleNotFoundError
        The library for such URLs is not installed; the message says which.

    Examples
    --------
    >>> import pandas as pd
    >>> import safetykit_analytics as ska
    >>> store = ska.SnapshotStore("snapshots")
    >>> store.append(pd.DataFrame({
    ...     "batch_id": ["batch_1", "batch_2"], "observed_at": pd.Timestamp("2026-03-02T12:30Z"),
    ...     "created_at": pd.NaT, "batch_status": ["PENDING", "SUCCESS"], "batch_count": 100,
    ...     "success_count": [45, 90], "error_count": [5, 10], "cancelled_count": 0, "pending_count": [50, 0],
    ...     "policy_id": "spam", "policy_version": "v1", "has_download": False, "is_terminal": [False, True],
    ... }))
    2
    >>> store.open_batch_ids()
    ['batch_1']
    >>> store.read(policy_id="spam")[["batch_id", "observed_at", "success_count"]]
      batch_id               observed_at  success_count
    0  batch_1 2026-03-02 12:30:00+00:00             45
    1  batch_2 2026-03-02 12:30:00+00:00             90
    """

    def __init__(
        self, path: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None
    ) -> None:
        self._files = open_files(path, storage_options)

    @property
    def name(self) -> str:
        """The last part of the path: what people call the store, without saying where it is."""
        return self._files.locate().rstrip("/").rpartition("/")[2]

    def exists(self) -> bool:
        """Return whether there is a folder, or anything under the URL.

        Returns
        -------
        bool
            True for an empty folder, which is an empty store.

        Raises
        ------
        StoreFailed
        """
        with typed_errors(f"read {self._files.locate()}"):
            return self._files.tree(None) is not None

    def last_compaction_at(self) -> dt.datetime | None:
        """Return when a compaction last changed something.

        Returns
        -------
        datetime.datetime or None
            Aware, UTC; None if there is no file of a cohort yet.

        Raises
        ------
        NotAStore, StoreFailed
        """
        with typed_errors(f"read {self._files.locate()}"):
            return self._files.renewed_at() if list_store(self._files).cohorts else None

    def append(self, frame: pd.DataFrame) -> int:
        """Add observations, durably: when this returns they are on disk.

        One new file; nothing that is there is touched. It is published whole or not at all.
        Repeating an append changes nothing.

        Parameters
        ----------
        frame : DataFrame
            Exactly the columns of `OBSERVATION_SCHEMA`, in any order; any index.

        Returns
        -------
        int
            Rows written: those of the frame without repeated keys.

        Raises
        ------
        InvalidFrame
            A column is missing, extra or wrong; nothing was written.
        NotAStore
            The folder holds something else; nothing was written.
        StoreFailed
            The disk or object store refused; nothing of this append counts.

        Warns
        -----
        UserWarning
            A row is stamped more than a day ahead of this machine's clock: one of the two clocks is wrong.
            Rows are written all the same, and every default ``as_of`` is then that late.
        """
        table = sorted_unique(table_from_frame(frame, exact=True))
        check_times(table)
        new = encode([by_cohort(table)], kind=RECENT) if table.num_rows else None
        with typed_errors(f"append to {self._files.locate()}"):
            _, tree = stable_tree(self._files, None)
            if new is not None:
                if f"{MARKER}/" not in tree.get("", ()):
                    self._files.create()
                self._files.publish(new.path, new.data)
        return int(table.num_rows)

    def read(
        self,
        start: dt.date | str | None = None,
        end: dt.date | str | None = None,
        *,
        policy_id: str | None = None,
        batch_ids: Iterable[str] | None = None,
        columns: Sequence[str] | None = None,
        skip_damaged: bool = False,
    ) -> pd.DataFrame:
        """Read observations as they were appended.

        Parameters
        ----------
        start, end : date, str or aware datetime, optional
            Half-open bounds of ``observed_at``. A date, also as text, is its UTC midnight; a time needs an
            offset.
        policy_id : str, optional
            Only batches that ever have this policy, when nulls have taken the batch's own label as they do
            in every table: all their observations, as they were appended. ``"(none)"``: batches that never
            have one.
        batch_ids : iterable of str, optional
            Only these batches.
        columns : sequence of str, optional
            Only these columns, in this order.
        skip_damaged : bool
            Read around damaged files, with a `DamagedFileWarning` for each, instead of raising.

        Returns
        -------
        DataFrame
            Columns and dtypes of `OBSERVATION_SCHEMA`, a RangeIndex, sorted by (``batch_id``,
            ``observed_at``), no key twice.

        Raises
        ------
        UnknownName
            No batch ever has this policy, or a column does not exist; the message lists what is known.
        DamagedFile
            A file cannot be read; the message names it.
        NotAStore, StoreFailed
        TypeError, ValueError
            A bound or a filter that cannot be meant.
        """
        start_us, end_us = _instant(start, "start"), _instant(end, "end")
        if start_us is not None and end_us is not None and start_us > end_us:
            raise ValueError(f"start={str(start)!r} is after end={str(end)!r}; expected start <= end")
        names = known_columns(columns)
        policy = None if policy_id is None else _texts([policy_id], name="policy_id")[0]
        if isinstance(batch_ids, str):
            raise TypeError(f"batch_ids is one string; pass a list: [{batch_ids!r}]")
        ids = None if batch_ids is None else sorted(set(_texts(batch_ids, name="batch_ids")))
        row_filter = RowFilter(ids, start_us, end_us)
        tables = read_whole(
            self._files,
            lambda listing: read_rows(listing, row_filter, policy, names, skip_damaged=skip_damaged),
        )
        if not tables and policy is not None and policy != NONE:
            known = read_whole(self._files, known_policies)
            if known and policy not in known:
                raise UnknownName("policy", policy, sorted(known, key=lambda name: (name == NONE, name)))
        return frame_of(tables, names)

    def latest(self) -> pd.DataFrame:
        """Read the last observation of each batch, with its labels filled: what it has lately been known by.

        Returns
        -------
        DataFrame
            As `read`, one row per batch, sorted by ``batch_id``.
        """
        tables = read_whole(self._files, read_latest)
        return frame_of(tables, OBSERVATION_SCHEMA.names)

    def open_batch_ids(self) -> list[str]:
        """List the batches that were not terminal when last seen: what to poll next.

        Reads recent rows and, of files of cohorts with open batches, the footers.

        Returns
        -------
        list of str
            Sorted, each once; empty for a store that is empty or not there yet.
        """
        return sorted(read_whole(self._files, open_ids))

    def cohorts(
        self,
        columns: Sequence[str] | None = None,  # noqa: ARG002 -- recent rows are read whole, see below
        *,
        wanted: Callable[[Cohort], bool] | None = None,
    ) -> list[Cohort]:
        """List the cohorts, to be read one by one, here or in other processes.

        Parameters
        ----------
        columns : sequence of str, optional
            What will be read. Recent rows are held whole: any column may decide between two rows of one key.
        wanted : callable, optional
            Called with each `Cohort`, whose facts are known; false leaves it out.

        Returns
        -------
        list of Cohort
            Sorted by (``earliest``, ``name``). They hold their recent rows, and read only the files
            of their own cohort.
        """
        return list_cohorts(list_store(self._files), wanted=wanted)

    def compact(self, *, thin_before: dt.date | str | None = None) -> Compaction:
        """Move recent rows into the files of their cohorts.

        A cohort's recent rows move when they are at least a quarter of its file, when its last open batch
        has ended, when a key is there already, or after 90 days. What stays is put together in few files,
        which are seldom written again. Safe beside readers, writers and other compactions, and when killed
        at any point: at most, files stay whose rows are in another file too, which reading drops and the next
        compaction removes. Run it now and then, such as once a day. A store of the first layout is converted.

        Parameters
        ----------
        thin_before : date, str or aware datetime, optional
            Also drop observations from before this instant that lie within a run of unchanged ones of a
            batch: all but the first and the last of the run. No table changes that is asked for ``as_of``
            this instant or later. What is dropped cannot be had back.

        Returns
        -------
        Compaction
            What was done, in numbers; ``print`` shows them as a sentence.

        Raises
        ------
        DamagedFile
            A file cannot be read. It stays where it is, its cohort was left alone, and all else was
            compacted.
        NotAStore, StoreFailed
        """
        thin_before_us = _instant(thin_before, "thin_before")
        with typed_errors(f"compact {self._files.locate()}"):
            return compact_store(self._files, thin_before_us=thin_before_us)

    def verify(self) -> list[Finding]:
        """Read every byte of the store and list what is not sound.

        Returns
        -------
        list of Finding
            (``path``, ``reason``) of each damaged file, and of each ignored file that is not a snapshot: its
            ``.is_damage`` is False and its reason begins with "ignored: ". Empty if all is well.

        Raises
        ------
        NotAStore, StoreFailed
        """
        with typed_errors(f"verify {self._files.locate()}"):
            return list(findings(self._files))

    def info(self) -> StoreInfo:
        """Count what is there, from the names of the files alone.

        Returns
        -------
        StoreInfo
            Files, cohorts, rows, batches, open batches, first and last observation, bytes. While there are
            recent files, rows and batches are counted in each file that they are in, and so are upper bounds.

        Raises
        ------
        NotAStore, StoreFailed
        """
        with typed_errors(f"read {self._files.locate()}"):
            return summarize(list_store(self._files))

    def __repr__(self) -> str:
        """Return where it is and how much there is in it; never fails."""
        try:
            what = str(self.info())
        except Exception as error:  # noqa: BLE001 -- a client library may raise anything
            what = _why(error)
        return f"SnapshotStore({self._files.locate()!r}): {what}"

    def _repr_html_(self) -> str:
        try:
            return self.info().html(self._files.locate())
        except Exception as error:  # noqa: BLE001 -- as above
            return f"<p>SnapshotStore: {html.escape(_why(error))}</p>"


def _why(error: Exception) -> str:
    """Describe why a store cannot be listed; messages of other libraries may quote a credential."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, SafetyKitAnalyticsError) else name


def _instant(value: object, name: str) -> int | None:
    if value is None:
        return None
    # Rounded up: nanoseconds of a pandas Timestamp lie between two instants that can have been observed.
    return parse_instant(value, name, zone("UTC")) + bool(getattr(value, "nanosecond", 0))


def _texts(values: Iterable[object], *, name: str) -> list[str]:
    found = []
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"{name}: expected text, found {type(value).__name__}")
        found.append(value)
    return found
