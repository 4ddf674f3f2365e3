"""Casts between bfloat16, float16 and float32, block by block. Needs numpy; imported lazily.

Values are rounded to nearest even, as torch does. A value that becomes infinite is a fault, and so
is one that is not finite in the source: nothing that a cast reads may be broken without a word.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

NUMPY_DTYPES: dict[str, np.dtype[np.generic]] = {
    "bfloat16": np.dtype(np.uint16),
    "float16": np.dtype(np.float16),
    "float32": np.dtype(np.float32),
}
"""How values are held in memory: bfloat16 as its bits, which numpy moves at full speed."""

LARGEST = {"bfloat16": 3.3895313892515355e38, "float16": 65504.0, "float32": 3.4028234663852886e38}


def storage_dtype(dtype: str, item_bytes: int) -> np.dtype[np.generic]:
    """The numpy dtype that holds values of a dtype; bits where they are only moved."""
    return NUMPY_DTYPES.get(dtype) or np.dtype(f"u{item_bytes}")


def to_float32(values: Array, dtype: str) -> NDArray[np.float32]:
    """Exact float32 values of an array in storage form."""
    if dtype == "bfloat16":
        bits = values.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    with np.errstate(all="ignore"):
        return values.astype(np.float32, copy=False)


def from_float32(values: NDArray[np.float32], dtype: str) -> Array:
    """Values in storage form of a dtype, rounded to nearest even; too large ones are infinite."""
    with np.errstate(all="ignore"):
        if dtype == "bfloat16":
            return values.astype(ml_dtypes.bfloat16).view(np.uint16)
        return values.astype(NUMPY_DTYPES[dtype], copy=False)


def is_finite(values: Array, dtype: str) -> bool:
    """Whether all values in storage form are finite."""
    if dtype == "bfloat16":
        return bool(((values & np.uint16(0x7F80)) != 0x7F80).all())  # type: ignore[operator]
    return bool(np.isfinite(values).all())


def cast(values: Array, source: str, target: str) -> tuple[Array, bool]:
    """The values in another dtype, and whether all are finite in both."""
    wide = to_float32(values, source)
    cast_values = from_float32(wide, target)
    return cast_values, is_finite(cast_values, target)
