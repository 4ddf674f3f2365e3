"""Formulas as data."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.formulas import (
    both,
    evaluate,
    evaluate_shape,
    evaluate_size,
    holds,
)

FACTS: dict[str, Any] = {
    "heads": 6,
    "head_size": 16,
    "hidden": 48,
    "tp": 4,
    "layer": 1,
    "scale": 0.5,
    "flag": True,
    "kind": "b",
    "moe": {"num_experts": 8},
    "kv": [2, 4],
    "none": None,
}


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("heads", 6),
        ("3", 3),
        ("heads*head_size", 96),
        ("heads*head_size + 2*head_size", 128),
        ("hidden/heads", 8),
        ("hidden - 8", 40),
        ("hidden % 7", 6),
        ("ceil(heads, tp)", 2),
        ("round_up(heads, tp)", 8),
        ("all_among(kv, (2, 3, 4))", True),
        ("all_among(kv, (2, 3))", False),
        ("(heads + 2)/tp*head_size", 32),
        ("moe.num_experts", 8),
        ("kv[layer]", 4),
        ("quotient(1, scale)", 2.0),
        ("scale * sqrt(head_size)", 2.0),
        ("heads if flag else tp", 6),
        ("-scale", -0.5),
        ("none", None),
    ],
)
def test_values(formula: str, value: Any) -> None:
    assert evaluate(formula, FACTS) == value


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (None, True),
        ("flag", True),
        ("not flag", False),
        ("layer < 1", False),
        ("layer >= 1 and kind == 'b'", True),
        ("kind in ('a', 'c') or layer > 0", True),
        ("moe.num_experts != 8", False),
    ],
)
def test_conditions(condition: str | None, expected: bool) -> None:
    assert holds(condition, FACTS) is expected


def test_shapes() -> None:
    assert evaluate_shape(("heads*head_size", "hidden"), FACTS) == (96, 48)


def test_a_quotient_must_be_whole() -> None:
    with pytest.raises(ValueError, match="6/4 is not a whole number"):
        evaluate("heads/tp", FACTS)


@pytest.mark.parametrize("formula", ["flag", "scale", "kind", "none"])
def test_a_size_is_an_integer(formula: str) -> None:
    with pytest.raises(AssertionError):
        evaluate_size(formula, FACTS)


@pytest.mark.parametrize("formula", ["[n for n in kv]", "lambda: 1", "heads ** 2", "f'{heads}'"])
def test_nothing_else_is_a_formula(formula: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        evaluate(formula, FACTS)


def test_no_function_can_be_called_but_those_of_the_language() -> None:
    with pytest.raises(KeyError, match="__import__"):
        evaluate("__import__('os')", FACTS)


def test_conditions_are_joined() -> None:
    assert both(None, "True") is None
    assert both("a", None) == "a"
    assert both("a or b", "c") == "(a or b) and (c)"
