"""The snapshot store: observations on disk, as a set of facts.

Place in the flow: frame → **store** → flow. The only stage that knows files. Must not import `flow`,
`rates` or anything above; they read `SnapshotStore.partitions`.
"""

from __future__ import annotations

import datetime as dt
import html
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.errors import InvalidFrame, SafetyKitAnalyticsError
from safetykit_analytics.frame import frame_from_table, table_from_frame
from safetykit_analytics.schema import OBSERVATION_SCHEMA
from safetykit_analytics.store.bounds import DAY_US, day_after_last, first_day, instant_us
from safetykit_analytics.store.compaction import Compaction, compact_days
from safetykit_analytics.store.files import open_files, typed_errors
from safetykit_analytics.store.keys import sorted_unique
from safetykit_analytics.store.layout import partition_name, snapshot_name
from safetykit_analytics.store.parquet import encode, observation_schema
from safetykit_analytics.store.partition import Partition, list_days, stable_tree
from safetykit_analytics.store.summary import summarise
from safetykit_analytics.store.verification import Finding, findings
from safetykit_analytics.wording import NONE

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    import pandas as pd

_EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()


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
        For URLs: what fsspec shall pass on, such as credentials. Never shown.

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

    def append(self, frame: pd.DataFrame) -> int:
        """Add observations, durably: when this returns they are on disk.

        One new file for each UTC day in the frame; nothing that is there is touched. If it fails, nothing
        of it stays; after a crash, whole days of it may be there. Repeating it completes it and changes
        nothing else.

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
        """
        table = sorted_unique(table_from_frame(frame, exact=True))
        days = _days_of(table)
        with typed_errors(f"append to {self._files.locate()}"):
            stable_tree(self._files, None)
            if days:
                encoded = ((date, encode(part, date)) for date, part in days)
                self._files.publish(
                    {f"{partition_name(date)}/{snapshot_name(data)}": data for date, data in encoded}
                )
        return int(table.num_rows)

    def read(
        self,
        start: dt.date | str | None = None,
        end: dt.date | str | None = None,
        *,
        policy_id: str | None = None,
        batch_ids: Iterable[str] | None = None,
        skip_damaged: bool = False,
    ) -> pd.DataFrame:
        """Read observations as they were appended.

        Parameters
        ----------
        start, end : date, str or aware datetime, optional
            Half-open bounds of ``observed_at``. A date, also as text, is its UTC midnight; a time needs an
            offset.
        policy_id : str, optional
            Only observations that report this policy; ``"(none)"`` for those that report none.
        batch_ids : iterable of str, optional
            Only these batches.
        skip_damaged : bool
            Read around damaged files, with a `DamagedFileWarning` for each, instead of raising.

        Returns
        -------
        DataFrame
            Columns and dtypes of `OBSERVATION_SCHEMA`, a RangeIndex, sorted by (``batch_id``,
            ``observed_at``), no key twice.

        Raises
        ------
        DamagedFile
            A file cannot be read; the message names it.
        NotAStore, StoreFailed
        TypeError, ValueError
            A bound or a filter that cannot be meant.
        """
        start_us, end_us = instant_us(start, name="start"), instant_us(end, name="end")
        if start_us is not None and end_us is not None and start_us > end_us:
            raise ValueError(f"start={str(start)!r} is after end={str(end)!r}; expected start <= end")
        keep = _predicate(start_us, end_us, policy_id, batch_ids)
        tables = []
        for part in self.partitions(first_day(start_us), day_after_last(end_us)):
            table = part.read(skip_damaged=skip_damaged)
            mask = keep(table)
            tables.append(table if mask is None else table.filter(mask))
        return frame_from_table(_by_key(tables))

    def latest(self) -> pd.DataFrame:
        """Read the last observation of each batch.

        Returns
        -------
        DataFrame
            As `read`, one row per batch, sorted by ``batch_id``.
        """
        return frame_from_table(_as_strings(self._latest(OBSERVATION_SCHEMA.names)))

    def open_batch_ids(self) -> list[str]:
        """List the batches that were not terminal when last seen: what to poll next.

        Returns
        -------
        list of str
            Sorted, each once; empty for a store that is empty or not there yet.
        """
        last = self._latest(["batch_id", "is_terminal"])
        return sorted(last.filter(pc.invert(last.column("is_terminal"))).column("batch_id").to_pylist())

    def partitions(self, start: dt.date | None = None, end: dt.date | None = None) -> list[Partition]:
        """List the UTC days that have observations, to be read one by one.

        Parameters
        ----------
        start, end : datetime.date, optional
            Half-open.

        Returns
        -------
        list of Partition
            In date order; each has ``.date`` and ``.read(columns=None) -> pyarrow.Table``, and pickles.

        Raises
        ------
        TypeError
            A bound is no date.
        NotAStore, StoreFailed
        """
        for name, day in (("start", start), ("end", end)):
            if day is not None and (isinstance(day, dt.datetime) or not isinstance(day, dt.date)):
                raise TypeError(f"{name}: expected a datetime.date, found {type(day).__name__}")
        with typed_errors(f"list {self._files.locate()}"):
            days = list_days(self._files, start=start, end=end)
        return [Partition(date, paths, self._files) for date, paths in days.items()]

    def cohorts(self, columns: Any = None) -> Any:
        """Return everything as one cohort, for now."""
        from safetykit_analytics.flow.cohorts import table_cohorts

        tables = [
            part.read(
                columns
                and [
                    n
                    for n in OBSERVATION_SCHEMA.names
                    if n in {*columns, "created_at", "observed_at", "batch_id"}
                ]
            )
            for part in self.partitions()
        ]
        return table_cohorts(pa.concat_tables([_plain(t) for t in tables])) if tables else []

    def compact(self, *, thin_before: dt.date | str | None = None) -> Compaction:
        """Rewrite each closed UTC day that is several files into one, sorted by (batch_id, observed_at).

        Safe beside readers, writers and other compactions, and when killed at any point: at most, files stay
        whose rows are in another file too, which reading drops and the next compaction removes. Run it now
        and then, such as once a day. Today is left alone.

        Parameters
        ----------
        thin_before : date, str or aware datetime, optional
            In UTC days before that of this instant, also drop observations that lie within a run of unchanged
            ones of a batch, all but the first and the last of the run on each day. No metric changes that is
            asked for ``as_of`` this date or later; asked for an earlier instant, such a batch may look as if
            it had been seen less recently. What is dropped cannot be had back.

        Returns
        -------
        Compaction
            What was done, in numbers; ``print`` shows them as a sentence.

        Raises
        ------
        DamagedFile
            A file cannot be read. Its day was left alone; all others were compacted.
        NotAStore, StoreFailed
        """
        thin_day = first_day(instant_us(thin_before, name="thin_before"))
        today = dt.datetime.now(dt.UTC).date()
        with typed_errors(f"compact {self._files.locate()}"):
            return compact_days(self._files, today=today, thin_before=thin_day)

    def verify(self) -> list[Finding]:
        """Read every byte of the store and list what is not sound.

        Returns
        -------
        list of Finding
            (``path``, ``reason``) of each damaged file, and of all that is no snapshot and is ignored: its
            ``.is_damage`` is False and its reason begins with "ignored: ". Empty if all is well.

        Raises
        ------
        NotAStore, StoreFailed
        """
        with typed_errors(f"verify {self._files.locate()}"):
            return list(findings(self._files))

    def __repr__(self) -> str:
        """Say where it is and how much there is in it; never fails."""
        try:
            with typed_errors(f"read {self._files.locate()}"):
                what = summarise(self._files).text()
        except Exception as error:  # noqa: BLE001 -- a client library may raise anything
            what = _why(error)
        return f"SnapshotStore({self._files.locate()!r}): {what}"

    def _repr_html_(self) -> str:
        try:
            with typed_errors(f"read {self._files.locate()}"):
                return summarise(self._files).html(self._files.locate())
        except Exception as error:  # noqa: BLE001 -- as above
            return f"<p>SnapshotStore: {html.escape(_why(error))}</p>"

    def _latest(self, columns: list[str]) -> Any:
        """Take the last row of each batch: days come in order, and within a day rows are sorted by time."""
        lasts = []
        for part in self.partitions():
            table = _as_dictionaries(part.read(columns))
            lasts.append(table.take(_last_positions(table.column("batch_id"))))
        if not lasts:
            return OBSERVATION_SCHEMA.empty_table().select(columns)
        table = _concat(lasts)
        last = table.take(_last_positions(table.column("batch_id")))
        return last.take(pc.sort_indices(last.column("batch_id").cast(pa.string())))


def _why(error: Exception) -> str:
    """Say why a store cannot tell about itself; what others raise may quote a credential."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, SafetyKitAnalyticsError) else name


def _days_of(table: Any) -> list[tuple[dt.date, Any]]:
    """Cut a sorted table into UTC days; rows keep their order."""
    ordinals = table.column("observed_at").cast(pa.int64()).to_numpy() // DAY_US + _EPOCH_ORDINAL
    outside = (ordinals < dt.date.min.toordinal()) | (ordinals > dt.date.max.toordinal())
    if outside.any():
        raise InvalidFrame("column 'observed_at' holds a time outside of the years 1 to 9999")
    return [
        (dt.date.fromordinal(int(ordinal)), table.filter(pa.array(ordinals == ordinal)).combine_chunks())
        for ordinal in np.unique(ordinals)
    ]


def _predicate(
    start_us: int | None, end_us: int | None, policy_id: str | None, batch_ids: Iterable[str] | None
) -> Any:
    """Give a function from a table to the mask of the rows that are wanted, None for all."""
    policy = _text([] if policy_id is None else [policy_id], name="policy_id")
    if isinstance(batch_ids, str):
        raise TypeError(f"batch_ids is one string; pass a list: [{batch_ids!r}]")
    ids = None if batch_ids is None else _text(batch_ids, name="batch_ids")

    def keep(table: Any) -> Any:
        masks = []
        observed = table.column("observed_at")
        if start_us is not None and table.num_rows:
            masks.append(pc.greater_equal(observed, pa.scalar(start_us, observed.type)))
        if end_us is not None and table.num_rows:
            masks.append(pc.less(observed, pa.scalar(end_us, observed.type)))
        if policy_id == NONE:
            masks.append(pc.is_null(table.column("policy_id")))
        elif policy_id is not None:
            masks.append(pc.is_in(table.column("policy_id").cast(pa.string()), value_set=policy))
        if ids is not None:
            masks.append(pc.is_in(table.column("batch_id").cast(pa.string()), value_set=ids))
        mask = None
        for other in masks:
            mask = other if mask is None else pc.and_(mask, other)
        return mask

    return keep


def _text(values: Iterable[object], *, name: str) -> Any:
    """Give what rows are compared with as an Arrow array."""
    found = list(values)
    for value in found:
        if not isinstance(value, str):
            raise TypeError(f"{name}: expected text, found {type(value).__name__}")
    return pa.array(found, type=pa.string())


def _by_key(tables: list[Any]) -> Any:
    """Put days, each sorted, together into one table sorted by (batch_id, observed_at)."""
    if not tables:
        return OBSERVATION_SCHEMA.empty_table()
    table = _concat(tables)
    ids = table.column("batch_id").combine_chunks()
    rank = pc.rank(ids.dictionary).to_numpy()
    # Days are in time order, so a stable sort by batch leaves each batch in time order.
    order = np.argsort(rank[ids.indices.to_numpy()], kind="stable")
    return _as_strings(table.take(pa.array(order)))


def _concat(tables: list[Any]) -> Any:
    """Put tables together, strings as one dictionary per column."""
    return (
        pa.concat_tables([_as_dictionaries(table) for table in tables]).unify_dictionaries().combine_chunks()
    )


def _as_dictionaries(table: Any) -> Any:
    return table.cast(observation_schema(table.column_names, dictionaries=True))


def _as_strings(table: Any) -> Any:
    """Give strings as text: large_string, as a year of ids can be more than the 2 GB of a string array."""
    fields = [
        field.with_type(pa.large_string()) if pa.types.is_string(field.type) else field
        for field in observation_schema(table.column_names, dictionaries=False)
    ]
    return table.cast(pa.schema(fields))


def _last_positions(ids: Any) -> Any:
    """Give the position of the last row of each batch, ascending."""
    codes = ids.combine_chunks()
    last = np.full(len(codes.dictionary), -1, dtype=np.int64)
    indices = codes.indices.to_numpy()
    last[indices] = np.arange(len(indices))
    return pa.array(np.sort(last[last >= 0]))


def _plain(t):
    return pa.table(
        [c.cast(pa.string()) if pa.types.is_dictionary(c.type) else c for c in t.columns],
        names=t.column_names,
    )
