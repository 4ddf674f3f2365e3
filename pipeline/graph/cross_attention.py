"""Attention of a decoder's queries to an encoder's states, whose keys and values are made once.

`b` batch, `s` queries, `t` encoder states, `H` hidden size, `M` size of the states. There is no
order between the two sequences: no rotary positions, no causality; a mask says which states there
are. One `Attention` operator, never its parts.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.masks import blind_to_zero, for_queries
from pipeline.graph.product import times


@dataclass(frozen=True, slots=True)
class CrossHeads:
    """Sizes; the query heads are a multiple of the K/V heads. `scale` multiplies the products."""

    num_attention_heads: int
    num_key_value_heads: int
    head_size: int
    scale: float


@dataclass(frozen=True, slots=True)
class CrossWeights:
    """Weights and biases: values of the graph. `N` query heads, `K` K/V heads of size `d`."""

    q: str  # [N * d, H]
    k: str  # [K * d, M]
    v: str  # [K * d, M]
    dense: str  # [H, N * d]
    q_bias: str | None = None  # [N * d]
    k_bias: str | None = None  # [K * d]
    v_bias: str | None = None  # [K * d]
    dense_bias: str | None = None  # [H]


@dataclass(frozen=True, slots=True)
class Memory:
    """Keys and values of the encoder's states, `[b, K, t, d]` each; they serve all steps."""

    key: str
    value: str


def remember(
    g: GraphBuilder, heads: CrossHeads, weights: CrossWeights, states: str, name: str
) -> Memory:
    """Keys and values of states `[b, t, M]`."""
    count, size = heads.num_key_value_heads, heads.head_size
    key = times(g, states, weights.k, f"{name}.k.flat", weights.k_bias)  # [b, t, K * d]
    value = times(g, states, weights.v, f"{name}.v.flat", weights.v_bias)  # [b, t, K * d]
    return Memory(
        _heads(g, key, count, size, f"{name}.k"), _heads(g, value, count, size, f"{name}.v")
    )


def cross_attention(
    g: GraphBuilder,
    heads: CrossHeads,
    weights: CrossWeights,
    hidden: str,
    memory: Memory,
    mask: str | None,
    name: str,
) -> str:
    """What queries from hidden states `[b, s, H]` find in the memory, `[b, s, H]`.

    `mask`: bool `[b, 1, 1 or s, t]`; None: all states are seen. Where a query sees no state, the
    context is 0, so that its output is the bias of the output projection.
    """
    count, size = heads.num_attention_heads, heads.head_size
    flat = times(g, hidden, weights.q, f"{name}.q.flat", weights.q_bias)  # [b, s, N * d]
    q = _heads(g, flat, count, size, f"{name}.q")  # [b, N, s, d]
    inputs = [q, memory.key, memory.value]
    if mask is not None:
        mask = for_queries(g, mask, hidden, f"{name}.mask")
        inputs.append(mask)
    context = g.node("Attention", inputs, f"{name}.attend", scale=heads.scale)  # [b, N, s, d]
    if mask is not None:
        context = blind_to_zero(g, context, mask, f"{name}.seen")
    context = g.node("Transpose", [context], f"{name}.by_token", perm=[0, 2, 1, 3])
    width = g.constant(f"{name}.joined_heads", [0, 0, count * size])
    joined = g.node("Reshape", [context, width], f"{name}.joined")  # [b, s, N * d]
    return times(g, joined, weights.dense, name, weights.dense_bias)


def _heads(g: GraphBuilder, flat: str, count: int, size: int, name: str) -> str:
    """`[b, tokens, count * size]` -> `[b, count, tokens, size]`."""
    shape = g.constant(f"{name}.heads", [0, 0, count, size])
    by_token = g.node("Reshape", [flat, shape], f"{name}.by_token")
    return g.node("Transpose", [by_token], name, perm=[0, 2, 1, 3])
