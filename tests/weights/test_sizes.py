"""Sizes as data."""

from __future__ import annotations

import pytest

from pipeline.weights.sizes import evaluate, evaluate_shape

SIZES = {"heads": 6, "head_size": 16, "hidden": 48, "tp": 4, "flag": True}


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("heads", 6),
        ("3", 3),
        ("heads*head_size", 96),
        ("heads*head_size + 2*head_size", 128),
        ("hidden/heads", 8),
        ("ceil(heads, tp)", 2),
        ("(heads + 2)/tp*head_size", 32),
    ],
)
def test_formulas(formula: str, value: int) -> None:
    assert evaluate(formula, SIZES) == value


def test_shapes() -> None:
    assert evaluate_shape(("heads*head_size", "hidden"), SIZES) == (96, 48)


def test_a_quotient_must_be_whole() -> None:
    with pytest.raises(ValueError, match=r"`heads / tp` is not a whole number"):
        evaluate("heads/tp", SIZES)


@pytest.mark.parametrize("formula", ["flag", "heads - 1", "__import__('os')", "heads.real", "1.5"])
def test_nothing_else_is_a_size(formula: str) -> None:
    with pytest.raises(AssertionError):
        evaluate(formula, SIZES)
