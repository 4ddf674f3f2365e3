"""Products of weights are rounded once, so that they are the same on every machine."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.weights.casts import as_bits, as_values
from pipeline.weights.products import product

DTYPES: dict[str, Any] = {
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float32": np.float32,
}


def nearest(exact: Fraction, dtype: str) -> float:
    """The value of a dtype that is nearest to an exact one; of two the even one."""
    kind = DTYPES[dtype]
    guess = np.array([float(exact)]).astype(np.float32).astype(kind)
    bits = as_bits(guess).astype(np.int64)
    around = np.concatenate([bits - 1, bits, bits + 1]).astype(as_bits(guess).dtype)
    values = as_values(around, dtype).astype(np.float64)
    keys = [
        (abs(Fraction(float(value)) - exact), int(bit) & 1) if np.isfinite(value) else (10**400, 0)
        for value, bit in zip(values, around, strict=True)
    ]
    return float(values[min(range(3), key=lambda n: keys[n])])


@pytest.mark.parametrize("target", DTYPES)
@pytest.mark.parametrize("source", DTYPES)
def test_every_value_is_the_nearest(source: str, target: str) -> None:
    rng = np.random.default_rng(3)
    keys, queries = (
        (rng.standard_normal((24, n)) * 2.0 ** rng.integers(-9, 3, (24, n))).astype(DTYPES[source])
        for n in (5, 7)
    )
    made = as_values(product((as_bits(keys), as_bits(queries)), source, target), target)
    for row in range(5):
        for column in range(7):
            pairs = zip(keys[:, row].tolist(), queries[:, column].tolist(), strict=True)
            exact = sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))
            assert float(made[row, column]) == nearest(exact, target)


@given(st.integers(0, 255), st.sampled_from([1, -1]), st.sampled_from([-1, 0, 1]))
def test_ties_and_their_neighbours(step: int, sign: int, beside: int) -> None:
    """1 + (step + 1/2) units of bfloat16, and values nearer to that than float32 can tell."""
    tie = sign * (1 + (step + 0.5) * 2.0**-7)
    keys = np.array([[1.0], [1.0]], np.float32)
    queries = np.array([[tie], [beside * 2.0**-40]], np.float32)
    made = as_values(product((as_bits(keys), as_bits(queries)), "float32", "bfloat16"), "bfloat16")
    exact = Fraction(tie) + Fraction(beside) * Fraction(1, 2**40)
    assert float(made[0, 0]) == nearest(exact, "bfloat16")
