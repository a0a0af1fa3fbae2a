"""Which versions are compared with which.

A candidate's baseline is fixed by what ended before the candidate did, so that it is the same at every look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from safetykit_analytics.calendar import DAY_US
from safetykit_analytics.errors import UnknownName
from safetykit_analytics.formatting import NONE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

#: The version with most batches in so much time before a candidate's first end is its baseline.
BEFORE_US = 28 * DAY_US
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Ended:
    """The batches that count, sorted by policy and end: arrays of int, shape (k,), times in microseconds.

    `at_us` is the end of each batch, `day` its local day in days since 1970-01-01.
    """

    policy: Ints
    group: Ints
    day: Ints
    at_us: Ints
    errors: Ints
    processed: Ints
    started_us: Ints
    n_groups: int

    def rows(self) -> list[Ints]:
        """Places of the batches of each version."""
        order = np.argsort(self.group, kind="stable")
        edges = np.searchsorted(self.group[order], np.arange(1, self.n_groups))
        return np.split(order, edges)


def choose_pairs(
    heads: pd.DataFrame,
    ended: Ended,
    *,
    baseline: str | None,
    candidate: str | None,
    wanted: NDArray[np.bool_] | None,
) -> pd.DataFrame:
    """Choose the rows of the table: ``group``, its ``base`` (-1 for none or itself) and ``is_baseline``.

    Each baseline comes before its candidates, in the order of `heads`, which names policy and version of each
    group. `wanted` flags the only groups that may be candidates.
    """
    versions = heads["policy_version"].fillna(NONE).tolist()
    for name in (baseline, candidate):
        if name is not None and name not in versions:
            policies = heads["policy_id"].fillna(NONE).unique().tolist()
            where = f"policy {policies[0]!r}" if len(policies) == 1 else "any policy"
            raise UnknownName("version", name, dict.fromkeys(versions), where=where)
    times = [ended.at_us[rows] for rows in ended.rows()]
    rows: list[tuple[int, int, bool]] = []
    for _, members in heads.reset_index().groupby("policy_id", dropna=False, sort=False)["index"]:
        places = {versions[member]: member for member in members.tolist()}
        against = _baselines(places, times, baseline, candidate, wanted)
        if candidate is None and wanted is None:
            named = {*against, *against.values()}
            rows.extend((place, -1, True) for place in places.values() if place not in named)
        for base in dict.fromkeys(against.values()):
            if base >= 0:
                rows.append((base, -1, True))
            rows.extend((place, base, False) for place, of in against.items() if of == base)
    return pd.DataFrame(rows, columns=["group", "base", "is_baseline"]).astype(
        {"group": "int64", "base": "int64", "is_baseline": "bool"}
    )


def _baselines(
    places: dict[str, int],
    times: list[Ints],
    baseline: str | None,
    candidate: str | None,
    wanted: NDArray[np.bool_] | None,
) -> dict[int, int]:
    """Find the baseline of each candidate of one policy, -1 for none."""
    firsts = {place: int(times[place][0]) if len(times[place]) else NEVER for place in places.values()}
    if candidate is not None:
        chosen = [places[candidate]] if candidate in places else []
    elif baseline is not None:
        chosen = [place for version, place in places.items() if version != baseline]
    else:
        # The oldest is not a candidate unless it is named; of several from one day it is the first by name.
        oldest = min(firsts, key=lambda place: (firsts[place] // DAY_US, place))
        chosen = [place for place in firsts if place != oldest and (wanted is None or wanted[place])]
    if baseline is not None:
        return dict.fromkeys(chosen, places.get(baseline, -1))
    return {place: _usual(place, firsts, times) for place in chosen}


def _usual(place: int, firsts: dict[int, int], times: list[Ints]) -> int:
    """Return the version with most batches in the four weeks before a candidate's first end, -1 for none."""
    others = [other for other in firsts if other != place]
    if not others:
        return -1
    ended = [times[other] for other in others]
    before = min(firsts[place], max(int(at[-1]) + 1 if len(at) else 0 for at in ended))
    counts = [int(np.diff(np.searchsorted(at, [before - BEFORE_US, before]))[0]) for at in ended]
    if not any(counts):
        # None ended before it: the first by name that ever ended a batch.
        counts = [len(at) > 0 for at in ended]
    return others[int(np.argmax(counts))]
