"""Which keys a token sees, and with what bias, out of the slots where both stand.

b = batch, s = seq (tokens of this step), t = cache slots. `slots` are int64 `[t]`: 0, 1, ...;
`queries` int64 `[b, 1, s, 1]`: the slot of each token of this step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.graph.alibi import alibi_slopes, rounded_biases
from pipeline.graph.builder import GraphBuilder, numpy_dtype
from pipeline.graph.description import Alibi, BlockSparse


@dataclass(frozen=True, slots=True)
class Visible:
    """What an attention is told of who sees what: an explicit mask, or causality and lengths.

    `mask`: bool or float `[b or 1, heads or 1, s, t]`; None: `lengths`, int64 `[b]`, filled slots.
    """

    mask: str | None
    lengths: str | None = None


def near(g: GraphBuilder, slots: str, queries: str, window: int, name: str) -> str:
    """Bool `[b, 1, s, t]`: the last `window` slots up to a token's own, or later ones."""
    size = g.shared(f"window.{window}", lambda n: g.constant(n, np.array(window, np.int64)))
    before = g.shared(f"window.{window}.before", lambda n: g.node("Sub", [queries, size], n))
    return g.node("Greater", [slots, before], name)


def block_sparse(
    g: GraphBuilder, slots: str, queries: str, sparse: BlockSparse, heads: int, name: str
) -> str:
    """Bool `[b, heads, s, t]`: which blocks of keys a block of queries sees, causality apart.

    Source: the published code of Phi-3-small (`triton_flash_blocksparse_attn.py`).
    """
    size = g.constant(f"{name}.size", np.array(sparse.block_size, np.int64))
    rows = g.node("Div", [queries, size], f"{name}.rows")  # [b, 1, s, 1]
    columns = g.node("Div", [slots, size], f"{name}.columns")  # [t]
    between = g.node("Sub", [rows, columns], f"{name}.between")  # [b, 1, s, t]
    count = g.constant(f"{name}.local", np.array(sparse.num_local_blocks, np.int64))
    local = g.node("Less", [between, count], f"{name}.near")
    step = 0 if sparse.homogeneous else max(1, sparse.vertical_stride // heads)
    shifts = (step * np.arange(heads) + 1).astype(np.int64).reshape(1, heads, 1, 1)
    moved = g.node("Add", [columns, g.constant(f"{name}.shifts", shifts)], f"{name}.moved")
    stride = g.constant(f"{name}.stride", np.array(sparse.vertical_stride, np.int64))
    left = g.node("Mod", [moved, stride], f"{name}.left")  # [1, heads, 1, t]
    zero = g.shared("int.zero", lambda n: g.constant(n, np.array(0, np.int64)))
    vertical = g.node("Equal", [left, zero], f"{name}.vertical")
    return g.node("Or", [local, vertical], name)


def biased(
    g: GraphBuilder, slots: str, queries: str, alibi: Alibi, bias: AlibiSize, seen: str, name: str
) -> str:
    """Float `[b, heads, s, t]`: the bias where a token sees, the lowest number elsewhere."""
    if alibi.in_bfloat16:
        made = _by_position(g, slots, alibi, bias, f"{name}.bias")
    else:
        made = _by_distance(g, slots, queries, alibi, bias.heads, f"{name}.bias")
    lowest = g.shared("lowest", lambda n: g.number(g.lowest, n))
    return g.node("Where", [seen, made, lowest], name)


@dataclass(frozen=True, slots=True)
class AlibiSize:
    """Over how many heads and positions a bias is laid out."""

    heads: int
    positions: int


def _by_distance(
    g: GraphBuilder, slots: str, queries: str, alibi: Alibi, heads: int, name: str
) -> str:
    """Float `[b, heads, s, t]`: a slope times how far back a key lies."""
    distance = g.node("Sub", [slots, queries], f"{name}.distance")  # <= 0
    far = g.node("Cast", [distance], f"{name}.far", to=g.compute_type)
    slopes = np.array(alibi_slopes(alibi, heads)).reshape(1, heads, 1, 1)
    return g.node("Mul", [far, _floats(g, slopes, f"{name}.slopes")], name)


def _by_position(g: GraphBuilder, slots: str, alibi: Alibi, size: AlibiSize, name: str) -> str:
    """Float `[1, heads, 1, t]`: looked up by the slot of a key."""
    biases = rounded_biases(alibi, size.heads, size.positions).reshape(1, size.heads, 1, -1)
    return g.node("Gather", [_floats(g, biases, f"{name}.table"), slots], name, axis=3)


def _floats(g: GraphBuilder, values: np.ndarray[Any, Any], name: str) -> str:
    return g.constant(name, values.astype(numpy_dtype(g.compute_dtype)))
