"""Products of two weights, rounded correctly: the same bits on every machine. Needs numpy.

A matrix library sums in an order of its own, so its last bits differ from processor to processor.
Here its float64 result is only an estimate with a known bound; where the bound leaves open which
value of the target's dtype is nearest, the sum is done again exactly.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.weights.casts import Array, as_bits, as_values, cast

_UNIT = 2.0**-53


def product(parts: tuple[Array, Array], source_dtype: str, dtype: str) -> Array:
    """Bits of `transpose(keys) @ queries`, each value rounded once.

    `parts`: bits of keys [inner, rows] and queries [inner, columns].
    """
    keys, queries = (_float64(part, source_dtype) for part in parts)
    estimate = keys.T @ queries
    # |error| <= inner * unit * sum of |products|; twice that is on the safe side.
    bound = 2 * (len(keys) + 2) * _UNIT * (np.abs(keys).T @ np.abs(queries))
    low, high = (_rounded(estimate + sign * bound, dtype) for sign in (-1, 1))
    made = _rounded(estimate, dtype)
    for row, column in zip(*np.nonzero(low != high), strict=True):
        exact = math.fsum((keys[:, row] * queries[:, column]).tolist())
        made[row, column] = _rounded(np.array([exact]), dtype)[0]
    return made


def _float64(bits: Array, dtype: str) -> NDArray[np.float64]:
    return as_values(np.ascontiguousarray(bits), dtype).astype(np.float64)


def _rounded(values: NDArray[np.float64], dtype: str) -> Array:
    """Bits of float64 values in a dtype, rounded to nearest even, in one step.

    To float32 first, to odd: an inexact value gets its last bit set, so that the second rounding
    cannot meet a tie that the exact value is not.
    """
    with np.errstate(all="ignore"):
        nearest = values.astype(np.float32)
        if dtype == "float32":
            return as_bits(nearest)
        over = np.abs(nearest.astype(np.float64)) > np.abs(values)
        toward_zero = np.where(over, np.nextafter(nearest, np.float32(0)), nearest)
        bits = as_bits(toward_zero.astype(np.float32))
        inexact = toward_zero.astype(np.float64) != values
        return cast(bits | inexact.astype(bits.dtype), "float32", dtype)
