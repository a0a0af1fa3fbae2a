"""The numbers once more, straight from their definitions: plain Python, exact fractions, no arrays.

Slow and simple on purpose, and independent of the library: times are whole microseconds, counts are integers,
shares are fractions. An observation is a dict of the columns of the schema with ``observed_at`` and
``created_at`` (or None) in microseconds since 1970.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
from collections import defaultdict
from fractions import Fraction
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

COUNTERS = ("success_count", "error_count", "cancelled_count")
DAY = 86_400_000_000
MINUTE = 60_000_000
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

Observation = dict[str, Any]


class Piece(NamedTuple):
    """What one batch did between two instants."""

    batch: str
    start: int
    end: int
    delta: tuple[int, ...]
    labels: dict[str, str | None]


def advance(row: Observation) -> tuple[Any, ...]:
    """Of two rows with one key the greater is kept; none is less than anything."""
    ties = ("created_at", "batch_status", "pending_count", "policy_id", "policy_version", "has_download")
    values = (
        sum(row[name] for name in COUNTERS),
        row["is_terminal"],
        *(row[name] for name in COUNTERS),
        row["batch_count"],
        *(row[name] for name in ties),
    )
    return tuple((value is not None, 0 if value is None else value) for value in values)


def batches(rows: list[Observation], as_of: int | None) -> dict[str, list[Observation]]:
    """Each batch's observations in time, each key once, labels filled."""
    kept: dict[tuple[str, int], Observation] = {}
    for row in rows:
        if as_of is not None and row["observed_at"] > as_of:
            continue
        clean = {
            **row,
            "policy_id": row["policy_id"] or None,
            "policy_version": row["policy_version"] or None,
        }
        key = (row["batch_id"], row["observed_at"])
        if key not in kept or advance(clean) > advance(kept[key]):
            kept[key] = clean
    found = defaultdict(list)
    for key in sorted(kept):
        found[key[0]].append(kept[key])
    for history in found.values():
        for name in ("policy_id", "policy_version"):
            label = next((row[name] for row in history if row[name] is not None), None)
            for row in history:
                label = row[name] = row[name] if row[name] is not None else label
    return dict(found)


def created_at(history: list[Observation]) -> int | None:
    """When the batch was created, at or before its first observation; None if nobody knows."""
    created, first = history[0]["created_at"], history[0]["observed_at"]
    if created is None or created - first > DAY:
        return None
    return min(created, first)


def pieces(history: list[Observation]) -> list[Piece]:
    """What a batch did, from its creation to its last observation."""
    found = []
    since, before = created_at(history), (0, 0, 0)
    for row in history:
        counts = tuple(row[name] for name in COUNTERS)
        if since is not None:
            delta = tuple(now - then for now, then in zip(counts, before, strict=True))
            labels = {name: row[name] for name in ("policy_id", "policy_version")}
            found.append(Piece(row["batch_id"], since, row["observed_at"], delta, labels))
        since, before = row["observed_at"], counts
    return found


def share(piece: Piece, start: int, end: int) -> Fraction:
    """How much of a piece falls into [start, end); work at one instant belongs to the bucket it begins."""
    if piece.start == piece.end:
        return Fraction(start <= piece.start < end)
    overlap = min(piece.end, end) - max(piece.start, start)
    return Fraction(max(overlap, 0), piece.end - piece.start)


def active(history: list[Observation], as_of: int) -> list[tuple[int, int, bool, Observation]]:
    """When the batch was active: (start, end, observed?, observation whose labels count)."""
    found = []
    created = created_at(history)
    since = history[0]["observed_at"] if created is None else created
    for row in history:
        found.append((since, row["observed_at"], True, row))
        since = row["observed_at"]
        if row["is_terminal"]:
            return found
    return [*found, (since, as_of, False, history[-1])]


def table(
    rows: list[Observation], edges: list[int], by: tuple[str, ...], as_of: int | None = None
) -> dict[Any, dict[str, Any]]:
    """Every column of `rates` by (group, bucket number), for all buckets between the edges.

    Only buckets with a non-zero increment or observed active time are there.
    """
    histories = batches(rows, as_of)
    if as_of is None:
        as_of = max((row["observed_at"] for row in rows), default=0)
    cells: dict[Any, dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    clusters: dict[Any, dict[str, list[Fraction]]] = defaultdict(dict)
    shown = set()
    for history in histories.values():
        for piece in pieces(history):
            _add_piece(piece, edges, by, cells, clusters)
        for since, until, observed, labels in active(history, as_of):
            for bucket, (start, end) in enumerate(itertools.pairwise(edges)):
                overlap = min(until, end) - max(since, start)
                if overlap > 0:
                    key = (tuple(labels[name] for name in by), bucket)
                    cells[key]["active"] += overlap
                    cells[key]["observed"] += overlap * observed
                    if observed:
                        shown.add(key)
    result = {}
    for key in shown | set(clusters):
        result[key] = _row(cells[key], edges[key[1]], edges[key[1] + 1], as_of)
        result[key]["clusters"] = clusters.get(key, {})
        result[key]["n_batches"] = len(result[key]["clusters"])
    return result


def _add_piece(piece: Piece, edges: list[int], by: tuple[str, ...], cells: Any, clusters: Any) -> None:
    if not any(piece.delta):
        return
    processed = piece.delta[0] + piece.delta[1]
    for bucket, (start, end) in enumerate(itertools.pairwise(edges)):
        part = share(piece, start, end)
        if not part:
            continue
        key = (tuple(piece.labels[name] for name in by), bucket)
        cell = cells[key]
        for name, delta in zip(("success", "error", "cancelled"), piece.delta, strict=True):
            cell[name] += delta * part
            cell["reprocessed"] += max(0, -delta) * part
        cell["moved"] += abs(processed) * part
        if piece.end - piece.start > end - start:
            cell["smeared"] += abs(processed) * part
        inside = start <= piece.start and piece.end <= end
        cell["low"] += processed if inside else min(0, processed)
        cell["high"] += processed if inside else max(0, processed)
        of_batch = clusters[key].setdefault(piece.batch, [Fraction(0), Fraction(0)])
        of_batch[0] += piece.delta[1] * part
        of_batch[1] += processed * part


def _row(cell: dict[str, Fraction], start: int, end: int, as_of: int) -> dict[str, Any]:
    success, error = cell["success"], cell["error"]
    processed = success + error
    elapsed = min(end, as_of) - start
    ratable = processed != 0 and success >= 0 and error >= 0
    return {
        "success": success,
        "error": error,
        "cancelled": cell["cancelled"],
        "processed": processed,
        "throughput_per_hour": processed / Fraction(elapsed, 60 * MINUTE) if elapsed > 0 else None,
        "error_rate": error / processed if ratable else None,
        "processed_low": cell["low"],
        "processed_high": cell["high"],
        "coverage": cell["observed"] / cell["active"] if cell["active"] else None,
        "smeared_share": cell["smeared"] / cell["moved"] if cell["moved"] else None,
        "reprocessed": cell["reprocessed"],
        "partial": end > as_of,
    }


def calendar(freq: str, tz: str, first: int, last: int) -> list[int]:
    """Edges of the buckets from the one that holds `first` to the one that holds `last`."""
    room = {"D": 3, "W": 9, "MS": 33}.get(freq, 1) * DAY
    # Whole periods, which near calls share.
    period = 4 * DAY
    edges = sorted(
        edge
        for number in range((first - room) // period, (last + room) // period + 1)
        for edge in walk(freq, tz, number * period, (number + 1) * period)
    )
    lowest = max(edge for edge in edges if edge <= first)
    highest = min(edge for edge in edges if edge > last)
    return [edge for edge in edges if lowest <= edge <= highest]


@functools.lru_cache(maxsize=8)
def clock(tz: str, start: int, stop: int, step: int) -> list[tuple[int, dt.datetime]]:
    """The local clock at every step."""
    zone = ZoneInfo(tz)
    return [
        (instant, (EPOCH + dt.timedelta(microseconds=instant)).astimezone(zone))
        for instant in range(start, stop, step)
    ]


@functools.cache
def walk(freq: str, tz: str, start: int, stop: int) -> list[int]:
    """Edges in [start, stop) along the local clock, by minutes or, for days, by quarters of an hour."""
    unit = freq.lstrip("0123456789")
    length = {"min": 1, "h": 60}.get(unit, 0) * int(freq.removesuffix(unit) or 1)
    edges = []
    # The offset may change at any minute; midnights are at quarters of an hour everywhere.
    minutes = (
        clock(tz, start - 60 * MINUTE, stop, MINUTE)
        if length
        else clock(tz, start - 2 * DAY, stop, 15 * MINUTE)
    )
    newest = minutes[0][1].date()
    offset = None
    for minute, local in minutes:
        new_days = []
        if local.date() > newest:
            new_days = [newest + dt.timedelta(days=1 + n) for n in range((local.date() - newest).days)]
            newest = local.date()
        if length:
            is_edge = local.utcoffset() != offset or (local.hour * 60 + local.minute) % length == 0
        else:
            is_edge = any(
                freq == "D" or (freq == "W" and day.weekday() == 0) or (freq == "MS" and day.day == 1)
                for day in new_days
            )
        offset = local.utcoffset()
        if is_edge and minute >= start:
            edges.append(minute)
    return edges


class Ended(NamedTuple):
    """Between which ages a batch ended, and whether it was completed; how old it was when it was cut off."""

    low: Fraction
    high: Fraction
    is_completed: bool


def ended(history: list[Observation]) -> Ended | None:
    """How long a batch took; None if nobody knows when it was created."""
    created = created_at(history)
    if created is None:
        return None
    before = created
    for row in history:
        if row["is_terminal"]:
            ages = Fraction(before - created), Fraction(row["observed_at"] - created)
            return Ended(*ages, row["batch_status"] in {"SUCCESS", "ERROR"})
        before = row["observed_at"]
    return Ended(Fraction(before - created), Fraction(before - created), is_completed=False)


def kaplan_meier(ends: list[Fraction], leaves: list[Fraction]) -> Fraction:
    """The share not done after all of `ends`, of which some leave before; who leaves at an end is at risk."""
    share = Fraction(1)
    for end in sorted(set(ends)):
        at_risk = sum(other >= end for other in ends) + sum(other >= end for other in leaves)
        share *= 1 - Fraction(ends.count(end), at_risk)
    return share


def fewest_left(known: list[Ended], t: Fraction) -> Fraction:
    """Every end that may lie at or before t happens, as late as it can; who is cut off leaves early."""
    ends = [min(one.high, t) for one in known if one.is_completed and one.low < t]
    later = [t + 1 for one in known if one.is_completed and one.low >= t]
    return kaplan_meier(ends, later + [one.low for one in known if not one.is_completed])


def most_left(known: list[Ended], t: Fraction) -> Fraction:
    """Only ends that must lie at or before t happen, as early as they can; who is cut off leaves late."""
    just_after = Fraction(1, 3)
    ends = [min(one.low + just_after, one.high) for one in known if one.is_completed and one.high <= t]
    later = [t + 1 for one in known if one.is_completed and one.high > t]
    return kaplan_meier(ends, later + [one.high for one in known if not one.is_completed])


def bracket(known: list[Ended], quantile: Fraction) -> tuple[Fraction | None, Fraction | None]:
    """When the least, and when the most, that can be left falls to 1 - quantile; None if it never does."""
    just_after, left = Fraction(1, 3), 1 - quantile
    starts, stops = (
        sorted({one.low for one in known}),
        sorted({one.high for one in known if one.is_completed}),
    )
    return (
        next((start for start in starts if fewest_left(known, start + just_after) <= left), None),
        next((stop for stop in stops if most_left(known, stop) <= left), None),
    )
