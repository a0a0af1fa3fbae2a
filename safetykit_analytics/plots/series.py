"""One table → the series to draw: names, styles, rows; beyond ten, the largest and "other".

Place in the flow: below every plot over time. Knows tables, draws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from safetykit_analytics.errors import InvalidFrame, UnknownName
from safetykit_analytics.labels import natural_key
from safetykit_analytics.plots.style import (
    OTHER_STYLE,
    STYLES,
    Style,
    assign,
    crossed,
)
from safetykit_analytics.plots.text import literal
from safetykit_analytics.wording import NONE

if TYPE_CHECKING:
    from collections.abc import Sequence

POLICY, VERSION = "policy_id", "policy_version"
MOST_SERIES = len(STYLES)


Key = tuple[str | None, ...]


@dataclass(frozen=True)
class Names:
    """The policies and versions that a picture holds: they decide who looks how."""

    policies: tuple[str | None, ...]
    versions: tuple[str | None, ...]


@dataclass(frozen=True)
class Series:
    """The rows of one policy, version or both, in time order."""

    label: str
    policy: str | None
    version: str | None
    style: Style
    rows: pd.DataFrame
    is_other: bool = False


def check_columns(table: Any, columns: Sequence[str], *, what: str) -> pd.DataFrame:
    """Return the table if it has the columns that a plot reads.

    Raises
    ------
    TypeError
        Not a DataFrame.
    UnknownName
        A column is missing.
    InvalidFrame
        A time column is not tz-aware.
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"expected what {what} gives, found {type(table).__name__}")
    for name in columns:
        if name not in table.columns:
            known = [str(column) for column in table.columns]
            raise UnknownName("column", name, known, where=f"what should be the table that {what} gives")
        if name in {"bucket_start", "bucket_end"} and not isinstance(table[name].dtype, pd.DatetimeTZDtype):
            mend = f"pd.to_datetime(table[{name!r}], utc=True)"
            if pd.api.types.is_datetime64_dtype(table[name].dtype):
                mend = f"table[{name!r}].dt.tz_localize('UTC')"
            raise InvalidFrame(
                f"column {name!r} holds {table[name].dtype}; expected tz-aware times, such as {mend} gives"
            )
    return table


def names_in(table: pd.DataFrame) -> Names:
    """Return the distinct policies and versions of a table, in natural order."""
    return Names(*(_distinct(table[name]) if name in table else () for name in (POLICY, VERSION)))


def split(table: pd.DataFrame, names: Names, *, volume: str, sums: Sequence[str]) -> tuple[list[Series], str]:
    """Cut a table over time into its series.

    Parameters
    ----------
    table : DataFrame
        Rows per bucket and group, in any order.
    names : Names
        Of the whole picture: this table's, or in a grid all panels'.
    volume : str
        The column whose sum decides which ten are drawn when there are more.
    sums : sequence of str
        Columns that "other" adds up per bucket; its further columns are NA.

    Returns
    -------
    series : list of Series
        In natural order, "other" last.
    shared : str
        What all series have in common and their labels leave out: a policy's name, or "".
    """
    by = [name for name in (POLICY, VERSION) if name in table]
    table = table.sort_values("bucket_start", kind="stable")
    if not by:
        return (
            [Series("all decisions", None, None, STYLES[1], table.reset_index(drop=True))]
            if len(table)
            else []
        ), ""
    grouped = {
        tuple(None if pd.isna(part) else str(part) for part in key): rows.reset_index(drop=True)
        for key, rows in table.groupby(by, dropna=False, sort=False, observed=True)
    }
    keys = sorted(grouped, key=lambda key: tuple(map(natural_key, key)))
    shown, rest = keys, []
    if len(keys) > MOST_SERIES:
        volumes = {key: float(grouped[key][volume].abs().sum()) for key in keys}
        largest = set(sorted(keys, key=lambda key: -volumes[key])[:MOST_SERIES])
        shown, rest = [key for key in keys if key in largest], [key for key in keys if key not in largest]
    labels, shared, styles = styles_of(by, shown, names)
    series = [Series(labels[key], *_both(by, key), style=styles[key], rows=grouped[key]) for key in shown]
    if rest:
        kind = (
            "policies" if by == [POLICY] else "versions" if by == [VERSION] or shared else "policy versions"
        )
        rows = _added_up(pd.concat([grouped[key] for key in rest]), sums)
        series.append(Series(f"other ({len(rest):,} {kind})", None, None, OTHER_STYLE, rows, is_other=True))
    return series, shared


def _distinct(column: pd.Series[Any]) -> tuple[str | None, ...]:
    return tuple(sorted({None if pd.isna(name) else str(name) for name in column.unique()}, key=natural_key))


def _both(by: list[str], key: Key) -> tuple[str | None, str | None]:
    parts = dict(zip(by, key, strict=True))
    return parts.get(POLICY), parts.get(VERSION)


def styles_of(by: list[str], keys: list[Key], names: Names) -> tuple[dict[Key, str], str, dict[Key, Style]]:
    """Name and dress up to ten keys: policies, versions, or pairs of both as `by` says.

    Returns
    -------
    labels : dict
        What tells each apart from the others.
    shared : str
        The policy that all have in common, if labels leave it out; else "".
    styles : dict
        The same in all panels while the picture has at most ten names. Of several policies, each has a
        colour, and each version a marker and line style.
    """
    drawn = [_both(by, key) for key in keys]
    policies = assign(_few(names.policies, [policy for policy, _ in drawn]))
    versions = assign(_few(names.versions, [version for _, version in drawn]))
    if by == [POLICY]:
        return {key: shown_name(key[0]) for key in keys}, "", {key: policies[key[0]] for key in keys}
    if by == [VERSION]:
        return {key: shown_name(key[0]) for key in keys}, "", {key: versions[key[0]] for key in keys}
    if not by:
        return dict.fromkeys(keys, "all decisions"), "", dict.fromkeys(keys, STYLES[1])
    if len(names.policies) == 1:
        return (
            {key: shown_name(key[1]) for key in keys},
            shown_name(names.policies[0]),
            {key: versions[key[1]] for key in keys},
        )
    return (
        {key: f"{shown_name(key[0])} · {shown_name(key[1])}" for key in keys},
        "",
        {key: crossed(policies[key[0]], versions[key[1]]) for key in keys},
    )


def _few(everywhere: tuple[str | None, ...], here: list[str | None]) -> set[str | None]:
    names = set(everywhere) | set(here)
    return names if len(names - {None}) <= MOST_SERIES else set(here)


def shown_name(name: str | None) -> str:
    """Return a name as people read it."""
    return NONE if name is None else literal(name)


def _added_up(rows: pd.DataFrame, sums: Sequence[str]) -> pd.DataFrame:
    """Add series up per bucket. Shares are weighted by the work they are shares of."""
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
    return added.assign(
        **{name: np.nan for name in rows.columns if name not in added and name not in (POLICY, VERSION)}
    )
