"""`check` and its report, and `status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from safetykit_analytics import flow
from safetykit_analytics.calendar import DAY_US, from_us, to_us, zone
from safetykit_analytics.errors import UnknownName
from safetykit_analytics.frame import STRING
from safetykit_analytics.health.judge import READ_DAYS, Facts, Finding, Limits, judge, moment
from safetykit_analytics.labels import natural_key
from safetykit_analytics.rates import check_executor, check_observations, parse_length, stalled_batches

if TYPE_CHECKING:
    import datetime as dt
    from concurrent.futures import Executor

KINDS = ("silent", "error_rate", "worse_version", "backlog_late", "stalled", "unanswered", "contradiction")


@dataclass(frozen=True, eq=False)
class CheckReport:
    """What `check` found.

    .. versionadded:: 0.2.0

    Attributes
    ----------
    as_of : datetime.datetime
        Aware, UTC.
    findings : DataFrame
        One row per finding: ``kind``; ``policy_id``, ``policy_version``, ``batch_id`` (NA where the finding
        is not about a single one); ``since`` (datetime64[us, UTC]); ``value``, ``limit`` (float64: hours or
        fractions; NaN for none).
    sentences : tuple of str
        One for each finding, in the same order.

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> ska.check(ska.SnapshotStore("no such folder")).ok
    True
    """

    as_of: dt.datetime
    findings: pd.DataFrame
    sentences: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Return whether nothing was found."""
        return not len(self.findings)

    def __str__(self) -> str:
        """Write the sentences, one per line."""
        return "\n".join(self.sentences) or f"nothing found as of {self.as_of:%Y-%m-%d %H:%M} UTC"


def check(
    observations: Any,
    *,
    max_error_rate: float | Mapping[str, float] | None = None,
    stalled: str | dt.timedelta = "6h",
    silent: str | dt.timedelta = "2h",
    eta: str | dt.timedelta | None = None,
    tz: str = "UTC",
    as_of: dt.datetime | dt.date | str | None = None,
    executor: Executor | None = None,
) -> CheckReport:
    """Check batches, polling and policies, and list what somebody must look at.

    .. versionadded:: 0.2.0

    Only batches that are open or were seen within the last 28 days are read.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
    max_error_rate : float or mapping of str to float, optional
        The highest error rate, a fraction, of each policy or of those named. Default: not judged.
    stalled, silent : str or timedelta
        How long the counts of an open batch may stand still, and how long nothing may be observed.
    eta : str or timedelta, optional
        How long the backlog of a policy may take. Default: not judged.
    tz, as_of, executor : optional
        As for `rates`, but the default `as_of` is now.

    Returns
    -------
    CheckReport
        Findings of these kinds, in this order; durations in hours, rates as fractions:

        - ``silent``: nothing was observed for `silent` or longer although batches are open
        - ``error_rate``: the lower bound of a policy's error rate in the batches that ended within 24 hours,
          two at least, is above its limit
        - ``worse_version``: a version first created within the last 14 days has a higher error rate than its
          baseline, by `compare_versions` for any number of looks; ``value`` is the difference
        - ``backlog_late``: pending decisions of a policy take longer than `eta` even at its fastest daily
          pace of the week before the last observation; ``value`` is NaN where nothing was finished
        - ``stalled``: counts of an open batch stood still for `stalled` or longer at its last observation
        - ``unanswered``: an open batch was last seen more than `silent` before the last observation of all
        - ``contradiction``: within 24 hours, parts of an observation did not sum to the size of its batch, or
          two of one instant differed; ``value`` as in `data_quality`

    Raises
    ------
    UnknownName, ValueError, InvalidFrame, TypeError
        As for `rates`; also an unknown policy in `max_error_rate`, and an invalid limit.

    Examples
    --------
    >>> import pandas as pd
    >>> import safetykit_analytics as ska
    >>> seen = pd.DataFrame({
    ...     "batch_id": "batch_1", "created_at": pd.Timestamp("2026-03-02T12:00Z"),
    ...     "observed_at": pd.to_datetime(["2026-03-02T13:00Z", "2026-03-02T20:00Z"]),
    ...     "batch_status": "PENDING", "batch_count": 100, "success_count": 40, "error_count": 0,
    ...     "cancelled_count": 0, "pending_count": 60, "policy_id": "spam", "policy_version": "v1",
    ...     "has_download": False, "is_terminal": False,
    ... })
    >>> print(ska.check(seen, as_of="2026-03-02T20:05Z"))
    batch_1 (spam v1): 60 decisions pending, and no count had changed for 7 h at 2026-03-02 20:00 UTC
    """
    limits = parse_limits(max_error_rate=max_error_rate, stalled=stalled, silent=silent, eta=eta)
    report, unknown = examine(observations, limits, tz=tz, as_of=as_of, executor=executor)
    if unknown is not None:
        raise unknown
    return report


def parse_limits(*, max_error_rate: Any, stalled: Any, silent: Any, eta: Any) -> Limits:
    """Check limits as they are passed to `check`."""
    by_policy = dict(max_error_rate) if isinstance(max_error_rate, Mapping) else {}
    overall = None if isinstance(max_error_rate, Mapping) else max_error_rate
    given = {f"[{policy!r}]": limit for policy, limit in by_policy.items()}
    for key, limit in (given if overall is None else {"": overall}).items():
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 <= limit <= 1:
            expected = "expected a fraction between 0 and 1, such as 0.03 for 3 %"
            raise ValueError(f"max_error_rate{key}={limit!r}: {expected}")
    idle, silence = parse_length(stalled, "stalled"), parse_length(silent, "silent")
    return Limits(overall, by_policy, idle, silence, None if eta is None else parse_length(eta, "eta"))


def examine(
    observations: Any, limits: Limits, *, tz: str, as_of: Any, executor: Executor | None = None
) -> tuple[CheckReport, UnknownName | None]:
    """Return what `check` does, and the error about an unknown policy instead of raising it."""
    now = moment(as_of, tz)
    check_executor(executor)
    check_observations(observations)
    start = now - READ_DAYS * DAY_US
    recent = flow.select(observations, start=start, end=now + 1, as_of=now, executor=executor)
    batches = flow.batch_summary(recent, as_of=now)
    last = now if recent.last_observed is None else recent.last_observed
    facts = Facts(pd.Timestamp(from_us(now)), pd.Timestamp(from_us(last)), recent, batches, zone(tz))
    found = sorted(
        judge(facts, limits, observations),
        key=lambda one: (KINDS.index(one.kind), *map(natural_key, one[1:3]), str(one.batch_id)),
    )
    unknown = limits.by_policy.keys() - set(batches["policy_id"])
    known = flow.known_policies(observations) if unknown else []
    # An empty store knows no policy, and so none that is unknown.
    names = [name for name in limits.by_policy if name in unknown and known and name not in known]
    error = UnknownName("policy", names[0], known) if names else None
    return CheckReport(from_us(now), _table(found), tuple(one.sentence for one in found)), error


def status(store: Any, *, stalled: str, silent: str, tz: str = "UTC", as_of: Any = None) -> dict[str, Any]:
    """Count open batches of a store and those that need a look; read only these."""
    idle, silence = parse_length(stalled, "stalled"), parse_length(silent, "silent")
    now = moment(as_of, tz)
    last = store.info().last_observed_at
    is_past = last is not None and to_us(last) > now
    seen = store if is_past else store.read(batch_ids=store.open_batch_ids())
    running = flow.select(seen, start=now, end=now + 1, as_of=now)
    if is_past:
        last = None if running.last_observed is None else from_us(running.last_observed)
    batches = flow.batch_summary(running, as_of=now).query("not is_terminal")
    is_late = batches["last_observed_at"] < pd.Timestamp(last) - silence
    return {
        "last_observed_at": last,
        "age_s": None if last is None else (from_us(now) - last).total_seconds(),
        "open": len(batches),
        "stalled": len(stalled_batches(running, idle=idle.to_pytimedelta(), as_of=from_us(now))),
        "unanswered": int(is_late.sum()),
    }


def _table(found: list[Finding]) -> pd.DataFrame:
    table = pd.DataFrame(found, columns=Finding._fields).drop(columns="sentence")
    table["since"] = pd.to_datetime(table["since"], utc=True)
    text = dict.fromkeys(("kind", "policy_id", "policy_version", "batch_id"), STRING)
    return table.astype({**text, "since": "datetime64[us, UTC]", "value": "float64", "limit": "float64"})
