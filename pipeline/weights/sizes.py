"""Sizes as data: `num_attention_heads*head_size`, worked out from a config.

Families state shapes by config name, so that a shape can be printed as it was meant and checked
before any byte is read. The language: integers, config names, `+`, `*`, `/` (which must be exact)
and `ceil(a, b)`, the quotient rounded up.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import lru_cache

from pipeline.artifact import Json


def evaluate(formula: str, sizes: Mapping[str, Json]) -> int:
    """The value of a formula. Raises ValueError where a `/` is not exact."""
    return _value(_parse(formula), sizes)


def evaluate_shape(formulas: Sequence[str], sizes: Mapping[str, Json]) -> tuple[int, ...]:
    """A shape from one formula per dim."""
    return tuple(evaluate(formula, sizes) for formula in formulas)


@lru_cache(maxsize=1024)
def _parse(formula: str) -> ast.expr:
    return ast.parse(formula, mode="eval").body


def _value(node: ast.expr, sizes: Mapping[str, Json]) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name):
            value = sizes[name]
            assert type(value) is int, (name, value)
            return value
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _value(left, sizes) + _value(right, sizes)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _value(left, sizes) * _value(right, sizes)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            quotient, rest = divmod(_value(left, sizes), _value(right, sizes))
            if rest:
                raise ValueError(f"`{ast.unparse(node)}` is not a whole number")
            return quotient
        case ast.Call(func=ast.Name(id="ceil"), args=[left, right], keywords=[]):
            return -(-_value(left, sizes) // _value(right, sizes))
    raise AssertionError(f"not a size: {ast.unparse(node)}")
