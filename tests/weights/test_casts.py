"""Casts: every value of 16 bits, and the rounding of float32, against ml_dtypes and numpy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from pipeline.weights.casts import LARGEST, as_bits, as_values, cast, is_finite, to_float32

BITS = np.arange(1 << 16, dtype=np.uint16)
NUMPY: dict[str, Any] = {
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float32": np.float32,
}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_all_values_widen_exactly(dtype: str) -> None:
    """By the definition of the format: sign, exponent, mantissa."""
    mantissa, bias = (7, 127) if dtype == "bfloat16" else (10, 15)
    exponent = (BITS.astype(np.int64) & 0x7FFF) >> mantissa
    fraction = (BITS & (2**mantissa - 1)) / 2**mantissa
    normal = exponent > 0
    with np.errstate(over="ignore"):
        value = (normal + fraction) * 2.0 ** (np.maximum(exponent, 1) - bias)
    value = np.where(BITS >> 15, -value, value)
    finite = exponent < 2 ** (15 - mantissa) - 1
    wide = to_float32(BITS, dtype)
    np.testing.assert_array_equal(wide[finite], value[finite].astype(np.float32))
    assert not np.isfinite(wide[~finite]).any()
    assert is_finite(BITS[finite], dtype)
    assert not any(is_finite(one, dtype) for one in BITS[~finite].reshape(-1, 1)[::97])
    back = cast(as_bits(wide[finite]), "float32", dtype)
    assert back.tobytes() == BITS[finite].tobytes()


def interesting_floats() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Random bits, and all neighbours of halfway points between values of 16 bits."""
    rng = np.random.default_rng(5)
    random = rng.integers(0, 1 << 32, 200_000, dtype=np.uint32)
    upper = BITS.astype(np.uint32) << 16
    halves = (upper | 0x8000)[:, None] + np.arange(-2, 3, dtype=np.int64)
    halves16 = (upper | 0x1000)[:, None] + np.arange(-2, 3, dtype=np.int64)
    bits = np.concatenate([random, halves.ravel() % 2**32, halves16.ravel() % 2**32])
    values = bits.astype(np.uint32).view(np.float32)
    return values[np.isfinite(values)]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrowing_rounds_to_nearest_even(dtype: str) -> None:
    values = interesting_floats()
    exact = values.astype(np.float64)
    bits = cast(as_bits(values), "float32", dtype)
    found = to_float32(bits, dtype).astype(np.float64)
    kept = np.isfinite(found)
    grid = to_float32(BITS, dtype)
    grid = np.unique(grid[np.isfinite(grid)].astype(np.float64))
    place = np.clip(np.searchsorted(grid, exact[kept]), 1, len(grid) - 1)
    below, above = grid[place - 1], grid[place]
    error = np.abs(found[kept] - exact[kept])
    nearest = np.minimum(np.abs(below - exact[kept]), np.abs(above - exact[kept]))
    np.testing.assert_array_equal(error, nearest)
    halfway = (exact[kept] - below) == (above - exact[kept])
    assert halfway.sum() > 1000
    assert not (bits[kept][halfway] & 1).any()


@pytest.mark.parametrize(("source", "target"), [("bfloat16", "float16"), ("float16", "bfloat16")])
def test_casts_between_16_bits_are_those_through_float32(source: str, target: str) -> None:
    through = cast(as_bits(to_float32(BITS, source)), "float32", target)
    finite = np.isfinite(to_float32(BITS, source))
    np.testing.assert_array_equal(cast(BITS, source, target)[finite], through[finite])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_largest_values(dtype: str) -> None:
    largest = np.array([LARGEST[dtype]]).astype(NUMPY[dtype])
    assert float(largest[0]) == LARGEST[dtype]
    assert is_finite(as_bits(largest), dtype)
    assert not is_finite(as_bits(largest) + 1, dtype)
    assert is_finite(as_bits(largest[:0]), dtype)


@pytest.mark.parametrize(
    ("value", "target", "finite"),
    [
        (65504.0, "float16", True),
        (65519.0, "float16", True),
        (65520.0, "float16", False),
        (-1e30, "float16", False),
        (3.4e38, "bfloat16", False),
        (1e-30, "float16", True),
        (np.nan, "bfloat16", False),
        (np.inf, "float16", False),
        (-np.inf, "bfloat16", False),
    ],
)
def test_what_is_not_finite_is_seen(value: float, target: str, finite: bool) -> None:
    bits = cast(as_bits(np.array([1.0, value], np.float32)), "float32", target)
    assert is_finite(bits, target) is finite
    assert float(as_values(bits, target)[0]) == 1.0
