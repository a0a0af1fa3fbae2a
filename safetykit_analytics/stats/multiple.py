"""p-values of comparisons that are looked at together. NumPy only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def adjust(p_values: ArrayLike, method: Literal["holm", "bh", "none"]) -> NDArray[np.float64]:
    """Adjust p-values for looking at many of them; NaN stays NaN and does not count.

    Holm (1979, Scand J Statist 6:65-70) bounds the chance of any false alarm; Benjamini, Hochberg (1995),
    doi:10.1111/j.2517-6161.1995.tb02031.x, the expected share of false ones among the alarms.
    """
    p = np.array(p_values, dtype=np.float64)
    if method not in {"holm", "bh", "none"}:
        raise ValueError(f"correction must be 'holm', 'bh' or 'none'; found {method!r}")
    known = ~np.isnan(p)
    if method == "none" or known.sum() < 2:
        return p
    sizes = p[known]
    order = np.argsort(sizes, kind="stable")
    m, rank = len(sizes), np.arange(len(sizes))
    if method == "holm":
        adjusted = np.maximum.accumulate(sizes[order] * (m - rank))
    else:
        adjusted = np.minimum.accumulate((sizes[order] * m / (rank + 1))[::-1])[::-1]
    found = np.empty(m)
    found[order] = np.minimum(adjusted, 1.0)
    p[known] = found
    return p
