"""Query, key and value heads: projected, normed and placed.

b = batch, s = seq (tokens of this step); heads: `num_attention_heads` of queries,
`num_key_value_heads` of keys and values.
"""

from __future__ import annotations

from typing import Any, Literal

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.description import Attention, LatentAttention
from pipeline.graph.linear import linear
from pipeline.graph.norm import head_norm
from pipeline.graph.parts import Parts


def heads_of(
    parts: Parts, attention: Attention, layer: int, part: Literal["q", "k", "v"], hidden: str
) -> str:
    """Project to heads, with norm and positions: -> `[b, heads, s, head_size]`.

    In the order "tokens": -> `[b, s, heads * head_size]`.
    """
    g, name, kind = parts.g, f"layers.{layer}.attention.{part}", attention.head_norm
    heads = attention.num_attention_heads if part == "q" else attention.num_key_value_heads
    x = _projected(parts, attention, layer, part, hidden)
    by_token = parts.order == "tokens" or attention.norm_after_rotary
    if part != "v" and by_token:
        x = _by_token(parts, attention, layer, part, x, heads)
    if parts.order == "tokens":
        return x
    x = split_heads(g, x, heads, attention.head_size, f"{name}.by_token")  # [b, s, heads, d]
    if part == "v" or by_token:
        return g.node("Transpose", [x], name, perm=[0, 2, 1, 3])
    if kind is not None:
        x = head_norm(g, parts.weights, kind, part, layer, x, heads)
    return rotate(parts, attention, g.node("Transpose", [x], name, perm=[0, 2, 1, 3]))


def _by_token(
    parts: Parts, attention: Attention, layer: int, part: Literal["q", "k"], x: str, heads: int
) -> str:
    """Norm and positions of `[b, s, heads * head_size]`, which keeps its dims."""
    if attention.head_norm is None:
        return rotate(parts, attention, x, heads)
    if attention.norm_after_rotary:
        return _normed(parts, attention, layer, part, rotate(parts, attention, x, heads), heads)
    return rotate(parts, attention, _normed(parts, attention, layer, part, x, heads), heads)


def _normed(
    parts: Parts, attention: Attention, layer: int, part: Literal["q", "k"], x: str, heads: int
) -> str:
    """The norm of every head of `[b, s, heads * head_size]`."""
    g, name, kind = parts.g, f"layers.{layer}.attention.{part}", attention.head_norm
    assert kind is not None
    split = split_heads(g, x, heads, attention.head_size, f"{name}.by_head")
    split = head_norm(g, parts.weights, kind, part, layer, split, heads)
    return joined_heads(g, split, heads * attention.head_size, f"{name}.normed.joined")


def joined_heads(g: GraphBuilder, x: str, width: int, name: str) -> str:
    """`[b, s, heads, size]` -> `[b, s, width]`; 0 keeps a dim."""
    shape = g.shared(f"shape.{width}", lambda n: g.constant(n, [0, 0, width]))
    return g.node("Reshape", [x, shape], name)


def _projected(
    parts: Parts, attention: Attention, layer: int, part: Literal["q", "k", "v"], hidden: str
) -> str:
    """`[b, s, hidden_size]` -> `[b, s, heads * head_size]`, within `clip`."""
    g, weights, name = parts.g, parts.weights, f"layers.{layer}.attention.{part}"
    shape = (attention.num_key_value_heads, attention.head_size)
    weight = weights.heads(part, "weight", layer, *shape)
    has_bias = weights.has("attention.qkv.bias", layer)
    bias = weights.heads(part, "bias", layer, *shape) if has_bias else None
    x = linear(g, hidden, weight, bias, f"{name}.flat")
    if attention.clip is None:
        return x
    # Not `Clip`: TensorRT's builder casts for it.
    high, low = (g.number(sign * attention.clip, f"{name}.clip.{sign}") for sign in (1, -1))
    return g.node("Max", [g.node("Min", [x, high], f"{name}.cut"), low], f"{name}.clipped")


def split_heads(g: GraphBuilder, x: str, heads: int, size: int, name: str) -> str:
    """`[b, s, heads * size]` -> `[b, s, heads, size]`; 0 keeps a dim."""
    shape = g.shared(f"shape.{heads}x{size}", lambda n: g.constant(n, [0, 0, heads, size]))
    return g.node("Reshape", [x, shape], name)


def rotate(
    parts: Parts, attention: Attention | LatentAttention, heads: str, count: int | None = None
) -> str:
    """Rotary positions of `[b, heads, s, size]`, of the first `dim` dims of each head.

    Or of `[b, s, count * size]`, where the number of heads is given.

    Dim `i` is paired with `i + dim / 2` as Hugging Face stores most models, or with `i + 1`
    (`interleaved`).
    """
    if attention.rotary is None:
        return heads
    rotary = attention.rotary
    inputs = [heads, *parts.at.rotary(rotary), parts.at.position_ids]
    partial: dict[str, Any] = {}
    if isinstance(attention, Attention) and rotary.dim != attention.head_size:
        partial = {"rotary_embedding_dim": rotary.dim}
    if count is not None:
        partial["num_heads"] = count
    return parts.g.node(
        "RotaryEmbedding",
        inputs,
        f"{heads}.rotated",
        interleaved=int(rotary.interleaved),
        **partial,
    )
