"""Formulas as data: `num_attention_heads*head_size`, `layer < first_k_dense_replace`.

Families state shapes, conditions and derived values by config name, so that they can be printed as
they were meant and checked before any byte is read. The language is a small part of Python's:
constants, objects (`{'type': 'linear'}`), config names (`moe.num_experts`, `num_kv_heads[layer]`),
`+ - * %`, `/` (which must be exact), comparisons, `in`, `and`, `or`, `not`, `a if b else c`, and
these functions: `ceil(a, b)`, the quotient rounded up; `floor(a)`; `quotient(a, b)`, a real number;
`sqrt(a)`; `round_up(a, b)`, to a multiple; `all_are(items, item)`; `all_among(items, known)`;
`periodic(usual, last, period, count)`, a list of `count` items, of which every `period`th is
`last`.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from pipeline.artifact import Json

Facts = Mapping[str, Json]
"""What names stand for: the translated config, and what weight rules alone read."""


def evaluate(formula: str, facts: Facts) -> Any:
    """The value of a formula. Raises ValueError where a `/` is not exact, KeyError for no fact."""
    return _value(_parse(formula), facts)


def evaluate_size(formula: str, facts: Facts) -> int:
    """The value of a formula that is a size."""
    value = evaluate(formula, facts)
    assert type(value) is int, (formula, value)
    return value


def evaluate_shape(formulas: Sequence[str], facts: Facts) -> tuple[int, ...]:
    """A shape from one formula per dim."""
    return tuple(evaluate_size(formula, facts) for formula in formulas)


def holds(condition: str | None, facts: Facts) -> bool:
    """Whether a condition is true; None always is."""
    return condition is None or bool(evaluate(condition, facts))


def both(one: str | None, other: str | None) -> str | None:
    """The condition that both hold; "True" and None always do."""
    stated = [condition for condition in (one, other) if condition not in (None, "True")]
    if len(stated) < 2:
        return stated[0] if stated else None
    return " and ".join(f"({condition})" for condition in stated)


def names_in(formula: str) -> frozenset[str]:
    """The names that a formula reads, functions aside: `sm` and `model` of `sm < model.x`."""
    nodes = ast.walk(_parse(formula))
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name)) - _FUNCTIONS.keys()


@lru_cache(maxsize=4096)
def _parse(formula: str) -> ast.expr:
    return ast.parse(formula, mode="eval").body


def _exact(left: int, right: int) -> int:
    quotient, rest = divmod(left, right)
    if rest:
        raise ValueError(f"{left}/{right} is not a whole number")
    return quotient


_OPERATORS: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = MappingProxyType(
    {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Mod: operator.mod,
        ast.Div: _exact,
        ast.Eq: operator.eq,
        ast.NotEq: operator.ne,
        ast.Lt: operator.lt,
        ast.LtE: operator.le,
        ast.Gt: operator.gt,
        ast.GtE: operator.ge,
        ast.In: lambda item, items: item in items,
        ast.NotIn: lambda item, items: item not in items,
    }
)

_FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "ceil": lambda value, step: -(-value // step),
        "round_up": lambda value, step: -(-value // step) * step,
        "floor": math.floor,
        "len": len,
        "quotient": operator.truediv,
        "all_are": lambda items, item: all(given == item for given in items),
        "all_among": lambda items, known: all(given in known for given in items),
        "periodic": lambda usual, last, period, count: [
            usual if place % period else last for place in range(1, count + 1)
        ],
        "sqrt": math.sqrt,
    }
)


def _value(node: ast.expr, facts: Facts) -> Any:
    if isinstance(node, ast.Constant | ast.Name | ast.Attribute | ast.Subscript | ast.Tuple):
        return _fact(node, facts)
    if isinstance(node, ast.Dict):
        keys = [_value(key, facts) for key in node.keys if key is not None]
        return dict(zip(keys, [_value(value, facts) for value in node.values], strict=True))
    return _operation(node, facts)


def _fact(node: ast.expr, facts: Facts) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return facts[name]
        case ast.Attribute(value=whole, attr=name):
            return _value(whole, facts)[name]
        case ast.Subscript(value=whole, slice=index):
            return _value(whole, facts)[_value(index, facts)]
        case ast.Tuple(elts=items):
            return tuple(_value(item, facts) for item in items)
    raise AssertionError(f"not a fact: {ast.unparse(node)}")


def _operation(node: ast.expr, facts: Facts) -> Any:
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, facts), _value(right, facts))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _OPERATORS[type(op)](_value(left, facts), _value(right, facts))
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_value(value, facts) for value in values)
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(_value(value, facts) for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, facts)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, facts)
        case ast.IfExp(test=test, body=body, orelse=other):
            return _value(body if _value(test, facts) else other, facts)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _FUNCTIONS[name](*(_value(argument, facts) for argument in arguments))
    raise AssertionError(f"not a formula: {ast.unparse(node)}")
