"""Masks: which keys a query sees, as one bool input of `Attention` (true: it is seen).

`b` batch, `s` queries, `t` keys. A mask for all heads is `[b, 1, s, t]`; ONNX Runtime wants its
last two dims in full. TensorRT takes a mask or causality, never both, so causality is a mask too,
and several are made one by `all_of` and `any_of`. Positions, ends and documents are int64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.graph.builder import ONNX_DTYPES, GraphBuilder


def causal(g: GraphBuilder, queries: str, keys: str, name: str, window: int | None = None) -> str:
    """No later key; with a window, none but the last `window` ones, the query's own included.

    Positions of queries `[b, s]` and of keys `[1 or b, t]` -> `[b, 1, s, t]`.
    """
    at = _by_query(g, queries, f"{name}.queries")  # [b, 1, s, 1]
    keys = _by_key(g, keys, f"{name}.keys")  # [1 or b, 1, 1, t]
    if window is None:
        return g.node("LessOrEqual", [keys, at], name)
    past = g.node("LessOrEqual", [keys, at], f"{name}.past")
    width = g.constant(f"{name}.window", np.array(window, np.int64))
    before = g.node("Sub", [at, width], f"{name}.before")  # the last position that is too far
    near = g.node("Greater", [keys, before], f"{name}.near")
    return g.node("And", [past, near], name)


def below(g: GraphBuilder, keys: str, ends: str, name: str) -> str:
    """Keys before an end of every sequence: filled slots, an encoder's tokens, a prefix.

    Positions of keys `[1 or b, t]`, ends `[b]` -> `[b, 1, 1, t]`.
    """
    axes = g.constant(f"{name}.axes", [1, 2, 3])
    ends = g.node("Unsqueeze", [ends, axes], f"{name}.ends")  # [b, 1, 1, 1]
    return g.node("Less", [_by_key(g, keys, f"{name}.keys"), ends], name)


def same_document(g: GraphBuilder, queries: str, keys: str, name: str) -> str:
    """Keys of the query's own document: packed documents do not see each other.

    Document numbers of queries `[b, s]` and of keys `[b, t]` -> `[b, 1, s, t]`.
    """
    at = _by_query(g, queries, f"{name}.queries")
    return g.node("Equal", [at, _by_key(g, keys, f"{name}.keys")], name)


def prefix_causal(
    g: GraphBuilder, queries: str, keys: str, ends: str, name: str, window: int | None = None
) -> str:
    """A bidirectional prefix: keys before `ends` are seen by all queries, later ones causally.

    Positions of queries `[b, s]` and of keys `[1 or b, t]`, ends `[b]` -> `[b, 1, s, t]`. What
    comes before the text, virtual tokens for instance, is such a prefix too. A window bounds the
    causal part alone.
    """
    later = causal(g, queries, keys, f"{name}.causal", window)
    return any_of(g, [later, below(g, keys, ends, f"{name}.prefix")], name)


def all_of(g: GraphBuilder, masks: Sequence[str], name: str) -> str:
    """Keys that every one of two or more masks lets be seen."""
    return _fold(g, "And", masks, name)


def any_of(g: GraphBuilder, masks: Sequence[str], name: str) -> str:
    """Keys that at least one of two or more masks lets be seen."""
    return _fold(g, "Or", masks, name)


def for_queries(g: GraphBuilder, mask: str, tokens: str, name: str) -> str:
    """The same mask for every query: mask `[b, 1, 1 or s, t]`, tokens `[b, s, ...]`."""
    num_queries = g.node("Shape", [tokens], f"{name}.num_queries", start=1, end=2)
    one = g.constant(f"{name}.one", [1])
    shape = g.node("Concat", [one, one, num_queries, one], f"{name}.shape", axis=0)
    return g.node("Expand", [mask, shape], name)  # [b, 1, s, t]


def as_bias(g: GraphBuilder, mask: str, bias: str | None, name: str) -> str:
    """A mask as what `Attention` adds to its logits: `bias`, or 0, where seen; compute dtype.

    What is not seen gets the lowest finite number, so that a query that sees nothing has no
    infinity minus infinity in it.
    """
    unseen = g.number(g.lowest, f"{name}.unseen")
    seen = bias or g.number(0, f"{name}.seen")
    return g.node("Where", [mask, seen, unseen], name)


def blind_to_zero(g: GraphBuilder, context: str, mask: str, name: str) -> str:
    """Zeros for the queries that see no key, where softmax has no meaning and engines differ.

    Context `[b, heads, s, value_size]`, mask `[b, 1, s, t]`.
    """
    counted = g.node("Cast", [mask], f"{name}.counted", to=g.compute_type)
    last = g.constant(f"{name}.last", [-1])
    sees = g.node("ReduceMax", [counted, last], f"{name}.any", keepdims=1)  # [b, 1, s, 1]
    sees = g.node("Cast", [sees], f"{name}.sees", to=ONNX_DTYPES["bool"])
    zero = g.number(0, f"{name}.zero")
    return g.node("Where", [sees, context, zero], name)


def _fold(g: GraphBuilder, op_type: str, masks: Sequence[str], name: str) -> str:
    """Masks two by two; the last node has the name."""
    assert len(masks) > 1, masks
    value = masks[0]
    for number, mask in enumerate(masks[1:], 1):
        last = number == len(masks) - 1
        value = g.node(op_type, [value, mask], name if last else f"{name}.{number}")
    return value


def _by_query(g: GraphBuilder, values: str, name: str) -> str:
    """`[b, s]` -> `[b, 1, s, 1]`."""
    return g.node("Unsqueeze", [values, g.constant(f"{name}.axes", [1, 3])], name)


def _by_key(g: GraphBuilder, values: str, name: str) -> str:
    """`[b, t]` -> `[b, 1, 1, t]`."""
    return g.node("Unsqueeze", [values, g.constant(f"{name}.axes", [1, 2])], name)
