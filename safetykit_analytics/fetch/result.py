"""What a run returns: observations, failures, and a way to ask again for the failed ones."""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from safetykit_analytics.errors import FetchFailures, Unauthorized, UnknownStatusWarning
from safetykit_analytics.fetch.event_loop import run_sync
from safetykit_analytics.fetch.request import Call, checked_key
from safetykit_analytics.fetch.responses import Failure
from safetykit_analytics.fetch.retries import Refused
from safetykit_analytics.fetch.run import Run
from safetykit_analytics.formatting import plural, shortened
from safetykit_analytics.frame import STRING, Row, frame_from_table, table_from_rows
from safetykit_analytics.schema import KNOWN_STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What a pickled result takes along of the call that made it.
_PICKLED_SETTINGS = ("base_url", "concurrency", "max_rate", "timeout_s", "progress")


@dataclass(frozen=True, slots=True)
class _Failed:
    """A failed id and its place among the ids that were given."""

    place: int
    batch_id: str
    failure: Failure


@dataclass(frozen=True, eq=False, repr=False)
class FetchResult:
    """The outcome of one run: each id is a row of `frame` or a row of `failures`, never both.

    Attributes
    ----------
    frame : DataFrame
        Observations, one row per id that answered, in input order: the columns and types of
        ``OBSERVATION_SCHEMA``. ``policy_id`` and ``policy_version`` are NA where the API said null or ``""``.
    failures : DataFrame
        One row per id that did not answer, in input order, with these columns:

        - ``batch_id`` (string)
        - ``kind`` (string): ``transport`` no whole answer came (timeout, reset, truncation); ``protocol`` an
          answer broke the rules of HTTP, of size or of JSON; ``validation`` JSON, but not the documented
          answer; ``http_status`` any status but 200; ``id_mismatch`` the status of another batch;
          ``invalid_id`` cannot be asked for, nothing was sent; ``not_attempted`` the run stopped before
          there was an answer
        - ``status_code`` (Int64): of the last answer; NA where there was none
        - ``message`` (string): the cause, with the expected and the found value
        - ``attempts`` (int64): requests that left this machine, all runs together
        - ``retry_after_s`` (Float64): seconds that the last answer asked to wait; NA where it did not ask

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> from safetykit_analytics.simulator import make_fleet, serve
    >>> fleet = make_fleet(seed=1, batches=3, weeks=1)
    >>> with serve(fleet, clock=lambda: fleet.end, api_key="a-key") as url:
    ...     result = ska.fetch_batches([*fleet.batch_ids, "batch_gone"], base_url=url, api_key="a-key")
    ...     again = result.retry()
    >>> result
    FetchResult(3 batches, 1 failure: 1 http_status)
    >>> again.failures[["batch_id", "kind", "status_code", "attempts"]]
         batch_id         kind  status_code  attempts
    0  batch_gone  http_status          404         2

    A result can be pickled. The key, the transport and the clock stay behind: `retry` takes the key from the
    environment then, and refuses where there was a transport or a clock of your own.
    """

    frame: pd.DataFrame
    failures: pd.DataFrame
    _table: Any
    _places: np.ndarray[Any, np.dtype[np.int64]]
    _failed: tuple[_Failed, ...]
    _call: Call | dict[str, Any]

    def __repr__(self) -> str:
        return f"FetchResult({self._counted()})"

    def __getstate__(self) -> dict[str, Any]:
        call = self._call
        if isinstance(call, Call):
            left_behind = [
                name for name in ("transport", "clock") if getattr(call, name) not in (None, "server")
            ]
            call = {name: getattr(call, name) for name in _PICKLED_SETTINGS} | {
                "clock": "server" if call.clock == "server" else None,
                "left_behind": left_behind,
            }
        return vars(self) | {"_call": call}

    def raise_for_failures(self) -> FetchResult:
        """Raise if any id failed, else return this result.

        Returns
        -------
        FetchResult
            Itself, so that ``fetch_batches(ids).raise_for_failures().frame`` reads well.

        Raises
        ------
        FetchFailures
            Some ids failed; its ``.result`` is this one.
        """
        if not self._failed:
            return self
        first = self._failed[0]
        raise FetchFailures(
            f"{self._counted()}; the first: {first.batch_id!r}: {first.failure.message}. "
            "error.result.failures lists them, error.result.retry() asks for them again",
            result=self,
        )

    def retry(self) -> FetchResult:
        """Ask again for the failed ids, and only for them.

        Returns
        -------
        FetchResult
            This result and the new answers in one, in the order of the first call. Attempts add up;
            ``invalid_id`` stays as it is.

        Raises
        ------
        Unauthorized
            The API refused the key; its ``.result`` is the merged one.
        MissingApiKey
            This result was pickled, and there is no key in the environment.
        ValueError
            This result was pickled and made with a transport or a clock of your own.
        """
        run = self._run_again()
        result = finish_sync(run, self)
        warn_of_unknown_statuses(run)
        return result

    async def aretry(self) -> FetchResult:
        """Do what `retry` does, from asynchronous code."""
        run = self._run_again()
        result = await finish(run, self)
        warn_of_unknown_statuses(run)
        return result

    def _run_again(self) -> Run:
        again = [failed.batch_id for failed in self._failed if failed.failure.kind != "invalid_id"]
        return Run(self._whole_call(), again)

    def _whole_call(self) -> Call:
        if isinstance(self._call, Call):
            return self._call
        settings = dict(self._call)
        if lost := settings.pop("left_behind"):
            raise ValueError(
                f"this result was pickled, and its {' and '.join(lost)} stayed behind: call "
                "fetch_batches(list(result.failures['batch_id']), ...) with them instead"
            )
        api_key = checked_key(None)
        if isinstance(api_key, Exception):
            raise api_key
        return Call(api_key=api_key, **settings)

    def _counted(self) -> str:
        n_rows, n_failed = len(self._places), len(self._failed)
        text = f"{plural(n_rows, 'batch')}, {plural(n_failed, 'failure')}"
        kinds = Counter(failed.failure.kind for failed in self._failed)
        listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        if n_failed and not n_rows and all(failed.failure.status_code == 403 for failed in self._failed):
            listed += "; all are 403: is the key that of the team that owns these batches?"
        return f"{text}: {listed}" if listed else text


async def finish(run: Run, before: FetchResult | None = None) -> FetchResult:
    """Carry a run out and make its result, merged into the one before it.

    Raises Unauthorized with the result, asyncio.CancelledError with the result as ``.partial``.
    """
    refused = None
    try:
        await run.go()
    except Refused as signal:
        refused = signal.status_code
    except asyncio.CancelledError as stop:
        vars(stop)["partial"] = result_of(run, before)
        raise
    result = result_of(run, before)
    if refused is not None:
        raise Unauthorized(refusal(refused), status_code=refused, result=result)
    return result


def finish_sync(run: Run, before: FetchResult | None = None) -> FetchResult:
    """Do what `finish` does, from synchronous code: KeyboardInterrupt has the result as ``.partial``."""
    try:
        return run_sync(finish(run, before))
    except KeyboardInterrupt as stop:
        vars(stop)["partial"] = result_of(run, before)
        raise


def refusal(status_code: int) -> str:
    """Return the words for a key that cannot be used."""
    return (
        f"the API refuses the key (found {status_code}): is SAFETYKIT_API_KEY that of this team, and still "
        "valid?"
    )


def result_of(run: Run, before: FetchResult | None = None) -> FetchResult:
    """Return the result of a run as far as it got; ids that were not sent are ``not_attempted``."""
    if run.is_sized:
        run.drop_rest(Failure("not_attempted", "never sent: the run was stopped before"))
    rows = [outcome for outcome in run.outcomes if isinstance(outcome, Row)]
    places = [place for place, outcome in enumerate(run.outcomes) if isinstance(outcome, Row)]
    failed = [
        _Failed(place, run.batch_ids[place], outcome)
        for place, outcome in enumerate(run.outcomes)
        if isinstance(outcome, Failure)
    ]
    table = table_from_rows(rows)
    if before is not None:
        return _merged(before, run.call, table, places, failed)
    return _assembled(run.call, table, np.asarray(places, dtype=np.int64), failed)


def _merged(
    before: FetchResult, call: Call, table: Any, places: Sequence[int], failed: Iterable[_Failed]
) -> FetchResult:
    """Merge the outcome of asking again in the places that the ids had at first."""
    kept = [old for old in before._failed if old.failure.kind == "invalid_id"]  # noqa: SLF001 -- a result
    again = [old for old in before._failed if old.failure.kind != "invalid_id"]  # noqa: SLF001
    added = [
        _Failed(
            again[new.place].place,
            new.batch_id,
            replace(new.failure, attempts=new.failure.attempts + again[new.place].failure.attempts),
        )
        for new in failed
    ]
    all_places = np.concatenate(
        [before._places, np.asarray([again[place].place for place in places], dtype=np.int64)]  # noqa: SLF001
    )
    order = np.argsort(all_places)
    return _assembled(
        call,
        pa.concat_tables([before._table, table]).take(pa.array(order)),  # noqa: SLF001
        all_places[order],
        sorted(kept + added, key=lambda old: old.place),
    )


def _assembled(
    call: Call, table: Any, places: np.ndarray[Any, np.dtype[np.int64]], failed: Sequence[_Failed]
) -> FetchResult:
    return FetchResult(frame_from_table(table), _failures_frame(failed), table, places, tuple(failed), call)


def _failures_frame(failed: Sequence[_Failed]) -> pd.DataFrame:
    failures = [one.failure for one in failed]
    return pd.DataFrame(
        {
            "batch_id": pd.array([one.batch_id for one in failed], dtype=STRING),
            "kind": pd.array([failure.kind for failure in failures], dtype=STRING),
            "status_code": pd.array([failure.status_code for failure in failures], dtype="Int64"),
            "message": pd.array([failure.message for failure in failures], dtype=STRING),
            "attempts": np.asarray([failure.attempts for failure in failures], dtype=np.int64),
            "retry_after_s": pd.array([failure.retry_after_s for failure in failures], dtype="Float64"),
        }
    )


def warn_of_unknown_statuses(run: Run) -> None:
    """Warn of each status that is not documented, at the line of the caller's caller."""
    statuses = {outcome.batch_status for outcome in run.outcomes if isinstance(outcome, Row)}
    for status in sorted(statuses - set(KNOWN_STATUSES)):
        warnings.warn(
            f"the API reported the batch status {shortened(status)!r}, which is not documented; it is kept "
            f"as it came and counts as not terminal. Known: {', '.join(KNOWN_STATUSES)}",
            UnknownStatusWarning,
            stacklevel=3,
        )
