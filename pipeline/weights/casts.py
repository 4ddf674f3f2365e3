"""Casts between bfloat16, float16 and float32, block by block. Needs numpy; imported lazily.

Values are rounded to nearest even, as torch does. A value that becomes infinite is a fault, and so
is one that is not finite in the source: nothing that a cast reads may be broken without a word.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NUMPY_DTYPES: dict[str, np.dtype[np.generic]] = {
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
    "float32": np.dtype(np.float32),
}

LARGEST = {"bfloat16": 3.3895313892515355e38, "float16": 65504.0, "float32": 3.4028234663852886e38}
"""The largest finite value of each dtype."""

_EXPONENTS = {"bfloat16": 0x7F80, "float16": 0x7C00, "float32": 0x7F800000}
"""The bits of the exponent: all set in NaN and infinity, in nothing else."""


_BFLOAT16_2_TO_16 = 0x4780
_BFLOAT16_2_TO_MINUS_14 = 0x3880


def as_bits(values: Array) -> NDArray[np.unsignedinteger]:
    """The same memory as unsigned integers: NaN equals itself, -0 is not 0."""
    return values.view(np.dtype(f"u{values.itemsize}"))


def as_values(bits: Array, dtype: str) -> Array:
    """The same memory as values of a dtype."""
    return bits.view(NUMPY_DTYPES[dtype])


def to_float32(bits: Array, dtype: str) -> NDArray[np.float32]:
    """Exact float32 values of bits of a dtype."""
    with np.errstate(all="ignore"):
        return as_values(bits, dtype).astype(np.float32, copy=False)


def cast(bits: Array, source: str, target: str) -> Array:
    """Bits of the values in another dtype, rounded to nearest even; too large ones are infinite."""
    made = _rebiased(bits) if (source, target) == ("bfloat16", "float16") else None
    return _converted(bits, source, target) if made is None else made


def _converted(bits: Array, source: str, target: str) -> Array:
    with np.errstate(all="ignore"):
        return as_bits(as_values(bits, source).astype(NUMPY_DTYPES[target]))


def _rebiased(bits: Array) -> Array | None:
    """bfloat16 as float16 by moving the exponent, which is exact from 2**-14 to below 2**16.

    Twice as fast as value by value. The few smaller values are converted; None where there are too
    many of them, or any value is too large.
    """
    flat = np.ascontiguousarray(bits).reshape(-1)
    made = flat & np.uint16(0x7FFF)
    if int(made.max(initial=0)) >= _BFLOAT16_2_TO_16:
        return None
    small = np.flatnonzero(made < _BFLOAT16_2_TO_MINUS_14)
    if len(small) * 8 > len(flat):
        return None
    made -= np.uint16((127 - 15) << 7)
    made <<= np.uint16(10 - 7)
    made |= flat & np.uint16(0x8000)
    made[small] = _converted(flat[small], "bfloat16", "float16")
    return made.reshape(bits.shape)


def is_finite(bits: Array, dtype: str) -> bool:
    """Whether all values are finite."""
    exponents = bits & bits.dtype.type(_EXPONENTS[dtype])
    return int(exponents.max(initial=0)) != _EXPONENTS[dtype]
