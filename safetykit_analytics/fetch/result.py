"""What a run returns: observations, failures, and a way to ask again for the failed ones."""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

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

# What a pickled result takes along of the call that made it.
_PICKLED_SETTINGS = ("base_url", "concurrency", "max_rate", "timeout_s", "progress")


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
    _failed: dict[int, tuple[str, Failure]]
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
        batch_id, first = next(iter(self._failed.values()))
        raise FetchFailures(
            f"{self._counted()}; the first: {batch_id!r}: {first.message}. "
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
        return Run(self._whole_call(), [self._failed[place][0] for place in self._places_to_retry()])

    def _places_to_retry(self) -> list[int]:
        return [place for place, (_, failure) in self._failed.items() if failure.kind != "invalid_id"]

    def _merged(self, again: FetchResult) -> FetchResult:
        """Merge the outcome of asking again in the places that the ids had at first."""
        retried = np.array(self._places_to_retry(), dtype=np.int64)
        failed = dict(self._failed)
        for place in retried.tolist():
            del failed[place]
        for at, (batch_id, failure) in again._failed.items():
            place = int(retried[at])
            attempts = failure.attempts + self._failed[place][1].attempts
            failed[place] = batch_id, replace(failure, attempts=attempts)
        places = np.concatenate([self._places, retried[again._places]])
        order = np.argsort(places)
        table = pa.concat_tables([self._table, again._table]).take(pa.array(order))
        return _assembled(again._call, table, places[order], dict(sorted(failed.items())))

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
        failures = [failure for _, failure in self._failed.values()]
        kinds = Counter(failure.kind for failure in failures)
        listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        if n_failed and not n_rows and all(failure.status_code == 403 for failure in failures):
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
    if run.n_ids is not None:  # pulling the rest ends
        list(run.drop_rest(Failure("not_attempted", "never sent: the run was stopped before")))
    outcomes = list(enumerate(run.outcomes))
    rows = {place: outcome for place, outcome in outcomes if isinstance(outcome, Row)}
    failed = {
        place: (run.batch_ids[place], outcome) for place, outcome in outcomes if isinstance(outcome, Failure)
    }
    table = table_from_rows(list(rows.values()))
    result = _assembled(run.call, table, np.array(list(rows), dtype=np.int64), failed)
    return result if before is None else before._merged(result)  # noqa: SLF001 -- a result


def _assembled(
    call: Call | dict[str, Any],
    table: Any,
    places: np.ndarray[Any, np.dtype[np.int64]],
    failed: dict[int, tuple[str, Failure]],
) -> FetchResult:
    ids, failures = [batch_id for batch_id, _ in failed.values()], [failure for _, failure in failed.values()]
    frame = pd.DataFrame(
        {
            "batch_id": pd.array(ids, dtype=STRING),
            "kind": pd.array([failure.kind for failure in failures], dtype=STRING),
            "status_code": pd.array([failure.status_code for failure in failures], dtype="Int64"),
            "message": pd.array([failure.message for failure in failures], dtype=STRING),
            "attempts": np.asarray([failure.attempts for failure in failures], dtype=np.int64),
            "retry_after_s": pd.array([failure.retry_after_s for failure in failures], dtype="Float64"),
        }
    )
    return FetchResult(frame_from_table(table), frame, table, places, failed, call)


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
