"""Observations as a DataFrame, and back: the only two doors between pandas and Arrow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.batch_ids import created_at_us
from safetykit_analytics.errors import InvalidFrame
from safetykit_analytics.schema import COUNT_COLUMNS, INSTANT, OBSERVATION_SCHEMA, TERMINAL_STATUSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from safetykit_analytics.models import BatchStatus

#: Strings in every table. Named in full because the defaults differ between pandas 2.2 (object) and 3 (str).
STRING = pd.StringDtype("pyarrow")
_INSTANT = pd.DatetimeTZDtype("us", "UTC")

_AS_IT_CAME = ("batch_status", *COUNT_COLUMNS, "policy_id", "policy_version", "has_download")


def frame_from_table(table: Any) -> pd.DataFrame:
    """Convert an Arrow table into a DataFrame whose dtypes depend on the schema alone.

    Strings are ``StringDtype("pyarrow")`` with NA, instants ``datetime64[us, zone]`` with NaT, counts int64,
    flags bool: the same for 0, 1 or N rows, on pandas 2.2 and 3.
    """
    columns: dict[str, Any] = {}
    for field in table.schema:
        column = table.column(field.name)
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            columns[field.name] = pd.array(column, dtype=STRING)
        elif pa.types.is_timestamp(field.type):
            instants = pd.DatetimeIndex(np.array(column.cast(pa.timestamp("us")).to_numpy()))
            columns[field.name] = instants.tz_localize("UTC").tz_convert(field.type.tz).array
        else:
            columns[field.name] = np.array(column.to_numpy())  # Arrow's own memory is read-only
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows), copy=False)


def table_from_frame(frame: Any, *, exact: bool = False) -> Any:
    """Check that a DataFrame holds observations and turn it into an Arrow table of `OBSERVATION_SCHEMA`.

    Any frame with the Arrow C stream interface will do, such as one of Polars or DuckDB, with any string
    dtype and instants of any unit and zone. Columns that the schema does not have are left out, or with
    `exact` refused. ``""`` becomes null in policy and version. InvalidFrame names the column, the first row
    and the expected type; other objects raise TypeError.
    """
    if not isinstance(frame, pd.DataFrame) and hasattr(frame, "__arrow_c_stream__"):
        frame = _from_stream(frame)
    if not isinstance(frame, pd.DataFrame):
        hint = "; pass its .frame" if isinstance(getattr(frame, "frame", None), pd.DataFrame) else ""
        raise TypeError(f"expected a DataFrame of observations, found {type(frame).__name__}{hint}")
    names = [str(name) for name in frame.columns]
    if twice := sorted(
        {name for name in names if names.count(name) > 1 and name in OBSERVATION_SCHEMA.names}
    ):
        raise InvalidFrame(f"not a frame of observations: column {twice[0]!r} is there more than once")
    if missing := [name for name in OBSERVATION_SCHEMA.names if name not in names]:
        raise InvalidFrame(
            f"not a frame of observations: missing {_listed(missing)}; "
            f"expected the columns of OBSERVATION_SCHEMA"
        )
    if exact and (extra := [name for name in names if name not in OBSERVATION_SCHEMA.names]):
        raise InvalidFrame(
            f"unexpected {_listed(extra)}: snapshots hold exactly the columns of OBSERVATION_SCHEMA; "
            f"leave the others out with frame[OBSERVATION_SCHEMA.names]"
        )
    return pa.table(
        [_column(frame[field.name], field) for field in OBSERVATION_SCHEMA], schema=OBSERVATION_SCHEMA
    )


def _from_stream(frame: Any) -> Any:
    """Read a frame through the Arrow C stream interface; return any other object as it is."""
    try:
        table = pa.RecordBatchReader.from_stream(frame).read_all()
    except (pa.ArrowException, TypeError):
        return frame
    plain = {pa.string_view(): pa.string(), pa.large_string(): pa.string()}
    kept = [
        column.cast(plain.get(column.type, column.type)).combine_chunks() if column.num_chunks else column
        for column in table.columns
    ]
    return pa.table(kept, names=table.column_names).to_pandas(types_mapper=pd.ArrowDtype)


def _column(values: pd.Series[Any], field: Any) -> Any:
    if pa.types.is_timestamp(field.type):
        array = _instants(values, field)
    elif pa.types.is_string(field.type):
        array = _strings(values, field)
    elif pa.types.is_boolean(field.type):
        array = _flags(values, field)
    else:
        array = _counts(values, field)
    if not field.nullable and array.null_count:
        raise InvalidFrame(f"{_place(values, _first(pc.is_null(array)))} is null; {field.name!r} never is")
    return array


def _instants(values: pd.Series[Any], field: Any) -> Any:
    dtype = values.dtype
    if isinstance(dtype, pd.ArrowDtype) and pa.types.is_timestamp(dtype.pyarrow_dtype):
        values = (
            values.astype(pd.DatetimeTZDtype(dtype.pyarrow_dtype.unit, dtype.pyarrow_dtype.tz or "UTC"))
            if (dtype.pyarrow_dtype.tz)
            else values.astype(f"datetime64[{dtype.pyarrow_dtype.unit}]")
        )
        dtype = values.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        utc = values.array.tz_convert(None).to_numpy()
        return pa.array(utc.astype("datetime64[us]")).cast(field.type)
    if not field.nullable or values.notna().any():
        if np.issubdtype(getattr(dtype, "type", object), np.datetime64):
            found, mend = "times without a time zone", f"frame[{field.name!r}].dt.tz_localize('UTC')"
        else:
            found, mend = str(dtype), f"pd.to_datetime(frame[{field.name!r}], utc=True)"
        raise InvalidFrame(
            f"column {field.name!r} holds {found}; expected tz-aware times, such as {mend} gives"
        )
    return pa.nulls(len(values), field.type)


def _strings(values: pd.Series[Any], field: Any) -> Any:
    array = _arrow_strings(values)
    if array is None:
        array = _converted(values.astype(object).where(values.notna(), None), pa.string())
    if array is None:
        is_text = values.map(_is_text) | values.isna()
        raise InvalidFrame(f"{_place(values, _first(~is_text))} is not text; {field.name!r} holds strings")
    # The API says "" where it means none, so the two are one and the same here.
    return pc.if_else(pc.equal(array, ""), None, array) if field.nullable else array


def _arrow_strings(values: pd.Series[Any]) -> Any:
    """Return the strings of a column that holds them in Arrow's memory, or None."""
    dtype = values.dtype
    is_arrow = dtype.storage == "pyarrow" if isinstance(dtype, pd.StringDtype) else False
    if isinstance(dtype, pd.ArrowDtype):
        is_arrow = pa.types.is_string(dtype.pyarrow_dtype) or pa.types.is_large_string(dtype.pyarrow_dtype)
    try:
        return pa.array(values.array).cast(pa.string()) if is_arrow else None
    except pa.ArrowException:
        return None  # a chunk of more than 2 GB


def _is_text(value: object) -> bool:
    # Half of a surrogate pair is not a character: no file can hold it.
    return isinstance(value, str) and value == value.encode(errors="ignore").decode()


def _flags(values: pd.Series[Any], field: Any) -> Any:
    array = _converted(values, pa.bool_())
    if array is None:
        raise InvalidFrame(f"column {field.name!r} holds {values.dtype}; expected True or False")
    return array


def _converted(values: pd.Series[Any], kind: Any) -> Any:
    """Return an Arrow array, or None: Arrow's errors quote the value, which may be a URL that opens data."""
    try:
        return pa.array(values, type=kind, from_pandas=True)
    except (pa.ArrowException, TypeError, UnicodeEncodeError):
        return None


def _counts(values: pd.Series[Any], field: Any) -> Any:
    if pd.api.types.infer_dtype(values, skipna=True) == "string":
        # What a CSV file that was read as text holds; Arrow would take "12" for 12.
        mend = f"pd.to_numeric(frame[{field.name!r}])"
        raise InvalidFrame(f"column {field.name!r} holds text; expected whole numbers, such as {mend} gives")
    if values.dtype == bool or not (pd.api.types.is_numeric_dtype(values.dtype) or values.dtype == object):
        raise InvalidFrame(f"column {field.name!r} holds {values.dtype}; expected whole numbers (int64)")
    array = _whole_numbers(values)
    if array is None:
        # The first value that does not fit, by halves: it lies from `row` on and before `stop`.
        row, stop = 0, len(values)
        while stop - row > 1:
            middle = (row + stop) // 2
            row, stop = (row, middle) if _whole_numbers(values.iloc[row:middle]) is None else (middle, stop)
        raise InvalidFrame(f"{_place(values, row)} is not a whole number within int64")
    if field.name in COUNT_COLUMNS and (pc.min(array).as_py() or 0) < 0:
        negative = pc.fill_null(pc.less(array, 0), fill_value=False)
        raise InvalidFrame(f"{_place(values, _first(negative))} is negative; counts are at least 0")
    return array


def _whole_numbers(values: pd.Series[Any]) -> Any:
    """Return int64 where every value is a whole number within it, else None."""
    try:
        return pa.array(values, from_pandas=True).cast(pa.int64(), safe=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return None


def _first(wrong: Any) -> int:
    return int(np.flatnonzero(np.asarray(wrong, dtype=bool))[0])


def _place(values: pd.Series[Any], row: int) -> str:
    """Describe where a wrong value stands, and never what it is: it could be a secret."""
    return f"column {values.name!r}, row {row} (index {_label(values.index[row])})"


def _listed(names: list[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {', '.join(map(_label, names))}"


def _label(label: object) -> str:
    """Write the name of a row or a column, unless that is a URL, which may open data."""
    shown = repr(label)
    return "that is a URL" if "://" in shown else shown


class Row(NamedTuple):
    """One observation as it arrives: all of an answer that is kept, and no URL."""

    batch_id: str
    observed_at_us: int
    batch_status: str
    batch_count: int
    success_count: int
    error_count: int
    cancelled_count: int
    pending_count: int
    policy_id: str | None
    policy_version: str | None
    has_download: bool


def row_of(status: BatchStatus, observed_at_us: int) -> Row:
    """Keep of an answer what an observation is made of; an empty policy or URL is none."""
    return Row(
        status.batch_id,
        observed_at_us,
        status.batch_status,
        status.batch_count,
        status.success_count,
        status.error_count,
        status.cancelled_count,
        status.pending_count,
        status.policy_id or None,
        status.policy_version or None,
        bool(status.download_url),
    )


def table_from_rows(rows: Sequence[Row]) -> Any:
    """Convert rows into a pyarrow.Table of `OBSERVATION_SCHEMA`, with creation times from the ids."""
    columns = zip(*rows, strict=True) if rows else [()] * len(Row._fields)
    kept = dict(zip(Row._fields, columns, strict=True))
    observed_at_us = np.asarray(kept["observed_at_us"], dtype=np.int64)
    batch_id = pa.array(kept["batch_id"], pa.string())
    arrays = {
        **{name: pa.array(kept[name], OBSERVATION_SCHEMA.field(name).type) for name in _AS_IT_CAME},
        "batch_id": batch_id,
        "observed_at": pa.array(observed_at_us).cast(INSTANT),
        "created_at": created_at_us(batch_id, observed_at_us),
        "is_terminal": pc.is_in(pa.array(kept["batch_status"], pa.string()), pa.array(TERMINAL_STATUSES)),
    }
    return pa.table([arrays[name] for name in OBSERVATION_SCHEMA.names], schema=OBSERVATION_SCHEMA)


def observations_from_events(lines: Iterable[str | bytes]) -> pd.DataFrame:
    """Convert SafetyKit's ``batch.completed`` webhook events into observations.

    Parameters
    ----------
    lines : iterable of str or bytes
        One JSON object each, as in a file of JSON lines: ``event_type``, ``received_at`` (ISO 8601 with an
        offset; whoever receives the webhook writes it) and ``data`` (a batch, as the API reports it). Blank
        lines count for nothing.

    Returns
    -------
    DataFrame
        Observations, one row per ``batch.completed`` event in the order of the lines; events of other types
        are left out. Events name no policy, so ``policy_id`` and ``policy_version`` are NA: appended to a
        store, a batch's other observations supply them.

    Raises
    ------
    TypeError
        A single string or a path, or a line that is not text.
    InvalidFrame
        A line is not JSON, lacks a field or holds a wrong one; the message gives the number of the line and
        no value of it. Nothing is returned for the good ones then.

    Examples
    --------
    >>> event = (
    ...     '{"event_type": "batch.completed", "received_at": "2023-11-15T02:00:00Z", "data": {'
    ...     '"batch_id": "batch_01hf89meedvef6pc00njv3ezh0", "batch_status": "SUCCESS", "batch_count": 20,'
    ...     '"success_count": 19, "error_count": 1, "cancelled_count": 0, "pending_count": 0}}'
    ... )
    >>> observations_from_events([event])[["observed_at", "success_count", "policy_id"]]
                    observed_at  success_count policy_id
    0 2023-11-15 02:00:00+00:00             19      <NA>
    """
    # Importing pydantic takes a tenth of a second, which only events need.
    from safetykit_analytics.models import parse_event  # noqa: PLC0415

    if isinstance(lines, str | bytes):
        raise TypeError("expected lines of events, found one string; pass text.splitlines() or an open file")
    if not isinstance(lines, Iterable):
        raise TypeError(
            f"expected lines of events, found {type(lines).__name__}; pass an open file or a list"
        )
    rows = []
    for number, line in enumerate(lines, start=1):
        if not isinstance(line, str | bytes):
            raise TypeError(f"line {number}: expected str or bytes, found {type(line).__name__}")
        text = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line
        if not text.strip():
            continue
        try:
            event = parse_event(text)
            if event is not None:
                rows.append(row_of(event.data, _instant_us(event.received_at)))
        except ValueError as error:
            raise InvalidFrame(f"line {number} of the events: {error}") from None
    return frame_from_table(table_from_rows(rows))


def _instant_us(text: str) -> int:
    """Read ISO 8601 with an offset as microseconds since 1970, UTC."""
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(
            "received_at: expected a time with an offset, such as 2026-06-01T12:00:00Z; found another text"
        )
    return (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
