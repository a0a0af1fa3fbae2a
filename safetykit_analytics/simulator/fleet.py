"""A fleet of batches whose whole life a seed decides: what each looks like at any time is arithmetic."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_HOUR_MS = 3_600_000
_NEVER_MS = np.iinfo(np.int64).max
_CROCKFORD = np.frombuffer(b"0123456789abcdefghjkmnpqrstvwxyz", dtype=np.uint8)

#: What a batch may be, as `counts_at` numbers it; the stuck stay PENDING.
STATUSES = ("WAITING_FOR_UPLOAD", "PENDING", "SUCCESS", "ERROR", "CANCELLED")
_WAITING, _PENDING, _SUCCESS, _ERROR, _CANCELLED = range(5)

# How much two decisions of the same batch have in common (intra-class correlation). Little, and still enough
# that intervals which take decisions for independent miss the truth every second time.
_ICC = 0.005

# Share of the batches that end otherwise than with all decisions made.
_ODD_ENDINGS = {"cancelled": 0.03, "failed": 0.004, "short": 0.004, "stuck": 0.008}


class Version(NamedTuple):
    """One version of a policy (``""`` for none, as in the API), from `since`, a share of the fleet's time.

    `error_rate` is the share of its decisions that fail, over all its batches; `per_hour` are the decisions
    per hour of a typical batch.
    """

    policy_version: str
    since: float
    error_rate: float
    per_hour: float


class Policy(NamedTuple):
    """One policy: the share of the batches that it gets, and its versions in the order of their roll-out."""

    policy_id: str
    share: float
    versions: tuple[Version, ...]


#: The default fleet: one version is worse than the one before, one better, one the same, one only faster.
POLICIES = (
    Policy("hate-speech", 0.30, (Version("v7", 0.0, 0.020, 1500), Version("v8", 0.50, 0.034, 1500))),
    Policy("counterfeit", 0.25, (Version("v3", 0.0, 0.045, 900), Version("v4", 0.35, 0.028, 900))),
    Policy("adult-content", 0.20, (Version("v11", 0.0, 0.012, 1800), Version("v12", 0.60, 0.012, 1800))),
    Policy("spam", 0.20, (Version("v9", 0.0, 0.008, 2000), Version("v10", 0.45, 0.008, 3200))),
    Policy("", 0.05, (Version("", 0.0, 0.050, 1200),)),
)


class BatchCounts(NamedTuple):
    """What batches look like at one time: an integer, or an integer array, per field."""

    status: Any
    batch_count: Any
    success_count: Any
    error_count: Any
    cancelled_count: Any
    pending_count: Any


@dataclass(frozen=True, eq=False)
class Fleet:
    """Batches in the order of their creation, with everything that decides what they look like when.

    Times are int64 milliseconds since 1970 (UTC); arrays have shape (n,), one element per batch.

    Attributes
    ----------
    start, end : datetime.datetime
        Batches are created in [start, end), UTC.
    batch_ids : tuple of str
        ``batch_`` and a ULID that holds the creation time.
    labels : tuple of (str, str)
        The policies and versions that occur; ``""`` for none.
    label : int array
        Index into `labels`.
    created_ms, uploaded_ms, started_ms : int array
        Created, all decisions uploaded, first decision begun.
    batch_count, errors : int array
        Decisions, and how many of them fail if all are made.
    duration_ms : int array
        How long all decisions take once begun.
    stop_ms : int array
        When work stops, done or not; for most batches never before all is done.
    ending : int array
        What the batch is from `stop_ms` on: index into `STATUSES`; PENDING for a stuck one.
    error_offset : int array
        Where in the batch its errors lie.
    """

    start: dt.datetime
    end: dt.datetime
    batch_ids: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    label: npt.NDArray[np.int64]
    created_ms: npt.NDArray[np.int64]
    uploaded_ms: npt.NDArray[np.int64]
    started_ms: npt.NDArray[np.int64]
    batch_count: npt.NDArray[np.int64]
    errors: npt.NDArray[np.int64]
    duration_ms: npt.NDArray[np.int64]
    stop_ms: npt.NDArray[np.int64]
    ending: npt.NDArray[np.int64]
    error_offset: npt.NDArray[np.int64]

    def created_by(self, at: dt.datetime) -> int:
        """Count the batches created at or before a time: they are ``batch_ids[:count]``."""
        return int(np.searchsorted(self.created_ms, to_ms(at), side="right"))

    def counts_at(self, batch: Any, at_ms: int) -> BatchCounts:
        """Compute what batches look like at a time: arithmetic, whatever came before.

        Parameters
        ----------
        batch : int or int array
            Index into `batch_ids`; of batches created at or before the time.
        at_ms : int
            Milliseconds since 1970, UTC.

        Returns
        -------
        BatchCounts
            Until a batch is uploaded, it counts no decisions.
        """
        uploaded = at_ms >= self.uploaded_ms[batch]
        stopped = at_ms >= self.stop_ms[batch]
        count = self.batch_count[batch] * uploaded
        worked_ms = np.minimum(at_ms, self.stop_ms[batch]) - self.started_ms[batch]
        done = np.clip(worked_ms * count // self.duration_ms[batch], 0, count)
        error = (done * self.errors[batch] + self.error_offset[batch]) // self.batch_count[batch]
        cancelled = np.where(stopped & (self.ending[batch] == _CANCELLED), count - done, 0)
        status = np.where(
            stopped,
            self.ending[batch],
            np.where(uploaded, np.where(done < count, _PENDING, _SUCCESS), _WAITING),
        )
        return BatchCounts(status, count, done - error, error, cancelled, count - done - cancelled)


def to_ms(at: dt.datetime) -> int:
    """Milliseconds since 1970, UTC, of an aware time."""
    return (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)


def make_fleet(
    *,
    seed: int = 0,
    batches: int = 4000,
    weeks: float = 3.0,
    start: dt.datetime = dt.datetime(2025, 9, 1, tzinfo=dt.UTC),
    policies: tuple[Policy, ...] = POLICIES,
) -> Fleet:
    """Draw a fleet.

    Parameters
    ----------
    seed : int
        The same arguments and seed give the same fleet, to the last id.
    batches : int
        How many.
    weeks : float
        Over how long a time they are created: fewer by night and at the weekend.
    start : datetime.datetime
        When that time begins; aware.
    policies : tuple of Policy
        A version is rolled out over three days, or a tenth of the fleet's time if that is shorter. How many
        decisions of a batch fail is beta-binomial: errors cluster within batches.

    Returns
    -------
    Fleet

    Raises
    ------
    ValueError
        `batches` is negative, or `weeks` is not positive.

    Examples
    --------
    >>> fleet = make_fleet(seed=1, batches=3, weeks=1)
    >>> len(fleet.batch_ids), fleet.created_by(fleet.start)
    (3, 0)
    """
    if batches < 0:
        raise ValueError(f"batches={batches}: expected 0 or more")
    if not weeks > 0:
        raise ValueError(f"weeks={weeks:g}: expected more than 0, such as 0.5 or 3")
    rng = np.random.default_rng(seed)
    start_ms = to_ms(start)
    length_ms = round(weeks * 168 * _HOUR_MS)
    created = start_ms + _arrivals(rng, batches, start, length_ms)
    label, version = _labels(rng, policies, (created - start_ms) / length_ms, length_ms)
    labels = tuple((p.policy_id, v.policy_version) for p in policies for v in p.versions)

    batch_count = np.clip(rng.lognormal(np.log(1100), 0.8, batches), 20, 10_000).astype(np.int64)
    # A beta distribution with this sum of its parameters has the wanted correlation within batches.
    concentration = 1 / _ICC - 1
    mean = np.array([v.error_rate for v in version])
    errors = rng.binomial(batch_count, rng.beta(mean * concentration, (1 - mean) * concentration))

    uploaded = created + rng.integers(10_000, 300_000, batches)
    started = uploaded + rng.exponential(0.15 * _HOUR_MS, batches).astype(np.int64)
    per_hour = np.array([v.per_hour for v in version]) * rng.lognormal(0, 0.3, batches)
    duration = np.maximum(1, batch_count / per_hour * _HOUR_MS).astype(np.int64)
    stop, ending = _odd_endings(rng, started, duration)
    return Fleet(
        start=start,
        end=start + dt.timedelta(milliseconds=length_ms),
        batch_ids=_ulids(rng, created),
        labels=labels,
        label=label,
        created_ms=created,
        uploaded_ms=uploaded,
        started_ms=started,
        batch_count=batch_count,
        errors=errors.astype(np.int64),
        duration_ms=duration,
        stop_ms=stop,
        ending=ending,
        error_offset=rng.integers(0, batch_count),
    )


def _arrivals(
    rng: np.random.Generator, batches: int, start: dt.datetime, length_ms: int
) -> npt.NDArray[np.int64]:
    """Creation times since the start, ascending: an hour's share follows the day and the week."""
    hours = np.arange(-(-length_ms // _HOUR_MS))
    of_week = (hours + start.weekday() * 24 + start.hour) % 168
    weight = 1 + 0.8 * np.sin((of_week % 24 - 8) / 24 * 2 * np.pi)
    weight = np.where(of_week < 120, weight, 0.4 * weight)
    hour = rng.choice(hours, size=batches, p=weight / weight.sum())
    at = (hour * _HOUR_MS + rng.integers(0, _HOUR_MS, batches)) % length_ms
    return np.sort(at)


def _labels(
    rng: np.random.Generator, policies: tuple[Policy, ...], when: npt.NDArray[np.float64], length_ms: int
) -> tuple[npt.NDArray[np.int64], list[Version]]:
    """Draw the policy and version of each batch: index of its label, and the version itself."""
    shares = np.array([policy.share for policy in policies])
    policy = rng.choice(len(policies), size=len(when), p=shares / shares.sum())
    ramp = min(0.1, 72 * _HOUR_MS / length_ms)
    # During a roll-out, the new version's share of the batches grows from none to all.
    patience = rng.uniform(0, ramp, len(when))
    versions = [version for policy in policies for version in policy.versions]
    first = np.cumsum([0, *(len(p.versions) for p in policies)])
    label = first[policy]
    for i, one in enumerate(policies):
        for later in one.versions[1:]:
            label = label + ((policy == i) & (when >= later.since + patience))
    return label, [versions[i] for i in label]


def _odd_endings(
    rng: np.random.Generator, started: npt.NDArray[np.int64], duration: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """When work stops before all is done, and what the batch then is; never, for most."""
    drawn = rng.random(len(started))
    bounds = np.cumsum(list(_ODD_ENDINGS.values()))
    kind = np.searchsorted(bounds, drawn, side="right")
    ending = np.array([_CANCELLED, _ERROR, _SUCCESS, _PENDING, _SUCCESS])[kind]
    stop = started + (rng.uniform(0.05, 0.95, len(started)) * duration).astype(np.int64)
    return np.where(kind < len(bounds), stop, _NEVER_MS), ending


def _ulids(rng: np.random.Generator, created_ms: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """Batch ids: ten base-32 digits of the time, sixteen of chance."""
    digits = np.empty((len(created_ms), 26), dtype=np.int64)
    digits[:, :10] = created_ms[:, None] >> np.arange(45, -1, -5) & 31
    digits[:, 10:] = rng.integers(0, 32, (len(created_ms), 16))
    text = _CROCKFORD[digits].tobytes().decode()
    return tuple(f"batch_{text[i : i + 26]}" for i in range(0, len(text), 26))
