"""One table → the series to draw: names, styles, rows; beyond ten, the largest and "other".

There are ten styles. The tests measure that readers with deuteranopia, protanopia and tritanopia can tell
their colours apart; where two come close, marker and line style differ. A style follows from the name: v7
has style 7, whichever versions stand beside it. No marker points anywhere, as on an axis of differences a
triangle would read as a direction.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from safetykit_analytics.errors import InvalidFrame, UnknownName
from safetykit_analytics.formatting import NONE
from safetykit_analytics.labels import natural_key
from safetykit_analytics.plots.text import literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Style:
    """Colour, marker and line style of one series."""

    color: str
    marker: Any
    linestyle: Any


_LONG_DASH = (0, (9, 2))
_DASH_DOT_DOT = (0, (6, 1.5, 1.2, 1.5, 1.2, 1.5))
# Dotted is not among the line styles: it means "hardly observed".
STYLES = (
    Style("#661100", "h", _DASH_DOT_DOT),
    Style("#0072B2", "o", "-"),
    Style("#D55E00", "s", "--"),
    Style("#56B4E9", "*", "-."),
    Style("#AA3377", "D", _LONG_DASH),
    Style("#117733", "8", _DASH_DOT_DOT),
    Style("#999933", "P", "-"),
    Style("#332288", "X", "--"),
    Style("#009E73", (4, 1, 45), "-."),
    Style("#E69F00", "H", _LONG_DASH),
)
NONE_STYLE = Style("#404040", "d", "-")
OTHER_STYLE = Style("#A8A8A8", "p", "-")
ALARM = "#D0021B"


def assign(names: Iterable[str | None]) -> dict[str | None, Style]:
    """Return a style for each of up to ten names, and the one of None (no name).

    A name that ends in a number has the style of that number, any other one a style of its letters. Where
    two want the same, the earlier in natural order has it and the other the next that is free.
    """
    ordered = sorted({name for name in names if name is not None}, key=natural_key)
    taken: dict[int, str] = {}
    waiting = [name for name in ordered if taken.setdefault(_wanted(name), name) != name]
    for name in waiting:
        slot = next(
            slot % len(STYLES)
            for slot in range(_wanted(name), _wanted(name) + len(STYLES))
            if slot % len(STYLES) not in taken
        )
        taken[slot] = name
    return {None: NONE_STYLE} | {name: STYLES[slot] for slot, name in taken.items()}


def wanted(name: str | None) -> Style:
    """Return the style of one name, whether or not another name has the same."""
    return NONE_STYLE if name is None else STYLES[_wanted(name)]


def _wanted(name: str) -> int:
    numbers = re.findall(r"[0-9]+", name)
    number = int(numbers[-1][-9:]) if numbers else zlib.crc32(name.encode("utf-8", "surrogatepass"))
    return number % len(STYLES)


POLICY, VERSION = "policy_id", "policy_version"
MOST_SERIES = len(STYLES)
_TIMES = ("bucket_start", "bucket_end")
_KINDS = {(POLICY,): "policies", (VERSION,): "versions", (POLICY, VERSION): "policy versions"}

Key = tuple[str | None, ...]
# For each column that splits the table: each of its names, and how it is drawn.
Names = dict[str, dict[str | None, str]]


@dataclass(frozen=True)
class Series:
    """The rows of one group, in time order."""

    label: str
    key: Key
    style: Style
    rows: pd.DataFrame
    is_other: bool = False


def check_columns(table: Any, columns: Sequence[str], *, what: str) -> pd.DataFrame:
    """Return the table if it has the columns that a plot reads, with tz-aware times; else raise."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"expected the table that {what} returns, found {type(table).__name__}")
    for name in columns:
        if name not in table.columns:
            known = [str(column) for column in table.columns]
            raise UnknownName("column", name, known, where=f"the table, which should come from {what}")
        if name in _TIMES and not isinstance(table[name].dtype, pd.DatetimeTZDtype):
            mend = f"pd.to_datetime(table[{name!r}], utc=True)"
            if pd.api.types.is_datetime64_dtype(table[name].dtype):
                mend = f"table[{name!r}].dt.tz_localize('UTC')"
            raise InvalidFrame(
                f"column {name!r} holds {table[name].dtype}; expected tz-aware times: use {mend}"
            )
    return table


def names_in(table: pd.DataFrame) -> Names:
    """Return the columns that split a table, and their distinct names in natural order, none last.

    These are ``policy_id``, ``policy_version`` and the text columns that stand before all numbers, as ``by``
    puts them there. Names that would be drawn alike are numbered.
    """
    own = []
    for column in table.columns:
        if column in {*_TIMES, POLICY, VERSION, "role"}:
            continue
        kind = table[column].dtype
        if pd.api.types.is_bool_dtype(kind) or not (
            pd.api.types.is_string_dtype(kind)
            or isinstance(kind, pd.CategoricalDtype)
            or pd.api.types.is_object_dtype(kind)
        ):
            break
        own.append(column)
    columns = [name for name in (POLICY, *own, VERSION) if name in table]
    return {column: _shown(map(name_of, table[column].unique())) for column in columns}


def name_of(value: Any) -> str | None:
    """Return the name in a cell; None for a missing one and for "(none)"."""
    return None if pd.isna(value) or value == NONE else str(value)


def keys_of(table: pd.DataFrame, columns: Iterable[str]) -> list[Key]:
    """Return the names of each row."""
    cells = [[name_of(value) for value in table[column]] for column in columns]
    return list(zip(*cells, strict=True)) if cells else [()] * len(table)


def in_order(keys: Iterable[Key]) -> list[Key]:
    """Return distinct keys in natural order, none last."""
    return sorted(set(keys), key=lambda key: tuple(map(natural_key, key)))


def groups_of(table: pd.DataFrame, columns: Iterable[str]) -> dict[Key, pd.DataFrame]:
    """Return the rows of each key, keys in natural order."""
    columns = list(columns)
    if not columns:
        return {(): table} if len(table) else {}
    found: dict[Key, list[pd.DataFrame]] = {}
    for cells, rows in table.groupby(columns, dropna=False, sort=False, observed=True):
        found.setdefault(tuple(map(name_of, cells)), []).append(rows)
    return {key: found[key][0] if len(found[key]) == 1 else pd.concat(found[key]) for key in in_order(found)}


def split(table: pd.DataFrame, names: Names, *, volume: str, sums: Sequence[str]) -> tuple[list[Series], str]:
    """Return the series of a table over time, and the label that they share.

    Series are in natural order, "other" last. `names` are those of the whole picture: this table's, or in a
    grid all panels'. The sum of `volume` decides which ten are drawn when there are more; "other" adds up
    the columns `sums` per bucket, and its further columns are NA.
    """
    table = table.sort_values("bucket_start", kind="stable")
    sizes = _sizes(table, list(names), volume)
    rest = pd.DataFrame()
    if len(sizes) > MOST_SERIES:
        largest = set(sorted(sizes, key=lambda key: -sizes[key])[:MOST_SERIES])
        is_large = np.array([key in largest for key in keys_of(table, names)])
        table, rest = table[is_large], table[~is_large]
    groups = {key: rows.reset_index(drop=True) for key, rows in groups_of(table, names).items()}
    labels, shared, styles = styles_of(list(groups), names)
    series = [Series(labels[key], key, styles[key], rows) for key, rows in groups.items()]
    if len(rest):
        label = f"other ({len(sizes) - len(groups):,} {_KINDS.get(_varying(names), 'groups')})"
        series.append(Series(label, (), OTHER_STYLE, _added_up(rest, sums), is_other=True))
    return series, shared


def _sizes(table: pd.DataFrame, columns: list[str], volume: str) -> dict[Key, float]:
    """Return the sum of `volume` of each key, keys in natural order."""
    if not columns:
        return {(): 0.0}
    sums = table[volume].abs().groupby([table[name] for name in columns], dropna=False, observed=True).sum()
    found: dict[Key, float] = {}
    for key, size in zip(keys_of(sums.index.to_frame(), columns), sums, strict=True):
        found[key] = found.get(key, 0.0) + float(size)
    return {key: found[key] for key in in_order(found)}


def styles_of(keys: list[Key], names: Names) -> tuple[dict[Key, str], str, dict[Key, Style]]:
    """Return labels, the label that all share, and styles of up to ten keys.

    A style is the same in all panels while a column has at most ten names. Where several columns tell series
    apart, the first decides on the colour and the others on marker and line style.
    """
    if not names:
        return dict.fromkeys(keys, "all decisions"), "", dict.fromkeys(keys, STYLES[1])
    varying = _varying(names)
    places = [place for place, column in enumerate(names) if column in varying]
    shared = [shown for column in names if column not in varying for shown in names[column].values()]
    labels = {key: label_of(key, names, places) for key in keys}
    looks: list[dict[Any, Style]] = []
    for part in [places[:1], places[1:]] if len(places) > 1 else [places]:
        here = {key: _joined(key, part) for key in keys}
        everywhere = set(list(names.values())[part[0]]) if len(part) == 1 else set(here.values())
        looks.append(_assigned(here, everywhere))
    colors, shapes = looks[0], looks[-1]
    styles = {key: replace(shapes[key], color=colors[key].color) for key in keys}
    return labels, " · ".join(shared), styles


def label_of(key: Key, names: Names, places: Sequence[int]) -> str:
    """Return some of the names in a key, with a dot between them, as a label."""
    columns = list(names.values())
    return " · ".join(columns[place][key[place]] for place in places)


def _varying(names: Names) -> tuple[str, ...]:
    columns = list(names)
    return tuple(column for column in columns if len(names[column]) > 1 or column == columns[-1])


def _joined(key: Key, places: Sequence[int]) -> str | None:
    parts = [key[place] for place in places]
    return parts[0] if len(parts) == 1 else " ".join(part or NONE for part in parts)


def _assigned(here: dict[Key, str | None], everywhere: set[str | None]) -> dict[Key, Style]:
    names = everywhere | set(here.values())
    styles = assign(names if len(names - {None}) <= MOST_SERIES else here.values())
    return {key: styles[name] for key, name in here.items()}


def _shown(found: Iterable[str | None]) -> dict[str | None, str]:
    """Return how names are drawn; those that would be drawn alike are numbered."""
    ordered = sorted(set(found), key=natural_key)
    shown = {name: NONE if name is None else literal(name) for name in ordered}
    alike, seen = Counter(shown.values()), Counter[str]()
    for name, text in shown.items():
        if alike[text] > 1:
            seen[text] += 1
            shown[name] = f"{text} ({seen[text]})"
    return shown


def _added_up(rows: pd.DataFrame, sums: Sequence[str]) -> pd.DataFrame:
    """Return series added up per bucket. Shares are weighted by the work they are shares of."""
    present = [name for name in sums if name in rows]
    weight = rows["processed"].abs() if "processed" in rows else pd.Series(1.0, index=rows.index)
    parts = rows[["bucket_start", *present]].copy()
    shares = [name for name in ("coverage", "smeared_share") if name in rows]
    for name in shares:
        parts[name] = rows[name].astype("float64") * weight
        parts[f"{name} weight"] = weight.where(rows[name].notna(), 0.0)
    summed = parts.groupby("bucket_start", sort=True).sum(min_count=1)
    first = rows.groupby("bucket_start", sort=True)[
        [name for name in ("bucket_end", "partial") if name in rows]
    ].first()
    for name in shares:
        total = summed.pop(f"{name} weight")
        summed[name] = summed[name] / total.where(total > 0)
    if {"error", "processed"} <= set(present):
        processed = summed["processed"].astype("float64")
        summed["error_rate"] = summed["error"] / processed.where(processed > 0)
    added = pd.concat([first, summed], axis=1).reset_index()
    return added.assign(**{name: np.nan for name in rows.columns if name not in added})
