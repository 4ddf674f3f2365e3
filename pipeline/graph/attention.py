"""Grouped-query self-attention over a KV cache: one `Attention` operator, never its parts.

b = batch, s = seq (tokens of this step), t = cache slots; heads: `num_attention_heads` of queries,
`num_key_value_heads` of keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.description import Attention, LatentAttention
from pipeline.graph.linear import linear
from pipeline.graph.norm import head_norm
from pipeline.graph.positions import Positions, Visible
from pipeline.graph.softcap import capped_attention
from pipeline.graph.weights import JoinedWeights


@dataclass(frozen=True, slots=True)
class Cache:
    """Keys and values of one layer: `[b, heads, t, key_size]` and `[b, heads, t, value_size]`."""

    key: str
    value: str


CacheOrder = Literal["heads", "tokens"]
"""Dims of a cache: `[b, heads, t, size]`, or `[b, t, heads * size]`, as projections give them.

By tokens nothing is transposed, which is faster on ONNX Runtime's CUDA provider; attention is then
told its numbers of heads. TensorRT's cache layer takes the first alone.
"""

Dialect = Literal["onnxruntime", "tensorrt"]
"""Where ONNX can say a thing in several ways, and only one of them suits a compiler."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What every part of a decoder is written with."""

    g: GraphBuilder
    weights: JoinedWeights
    at: Positions
    dialect: Dialect
    hidden_size: int
    order: CacheOrder = "heads"


def self_attention(
    parts: Parts, attention: Attention, layer: int, hidden: str, past: Cache
) -> tuple[str, Cache]:
    """Attention of one layer on `[b, s, hidden_size]`, and the updated cache."""
    scope = f"layers.{layer}.attention"
    q = _heads(parts, attention, layer, "q", hidden)  # [b, num_attention_heads, s, head_size]
    k = _heads(parts, attention, layer, "k", hidden)  # [b, num_key_value_heads, s, head_size]
    v = _heads(parts, attention, layer, "v", hidden)  # [b, num_key_value_heads, s, head_size]
    present = updated(parts, past, k, v, layer)  # by tokens all are [b, s, heads * head_size]
    context = attend(parts, attention, q, present, f"{scope}.attend")
    if parts.order == "tokens":
        return dense(parts, layer, context), present
    return output(parts, attention, layer, context), present  # [b, s, hidden_size]


def _heads(
    parts: Parts, attention: Attention, layer: int, part: Literal["q", "k", "v"], hidden: str
) -> str:
    """Project to heads, with norm and positions: -> `[b, heads, s, head_size]`."""
    g, name, kind = parts.g, f"layers.{layer}.attention.{part}", attention.head_norm
    heads = attention.num_attention_heads if part == "q" else attention.num_key_value_heads
    x = _projected(parts, attention, layer, part, hidden)
    if parts.order == "tokens":
        return _by_token(parts, attention, layer, part, x, heads)
    x = split_heads(g, x, heads, attention.head_size, f"{name}.by_token")  # [b, s, heads, d]
    if part == "v":
        return g.node("Transpose", [x], name, perm=[0, 2, 1, 3])
    if kind is not None and not attention.norm_after_rotary:
        x = head_norm(g, parts.weights, kind, part, layer, x, heads)
    x = rotate(parts, attention, g.node("Transpose", [x], name, perm=[0, 2, 1, 3]))
    if kind is not None and attention.norm_after_rotary:
        x = head_norm(g, parts.weights, kind, part, layer, x, heads)
    return x


def _by_token(
    parts: Parts,
    attention: Attention,
    layer: int,
    part: Literal["q", "k", "v"],
    x: str,
    heads: int,
) -> str:
    """Norm and positions of `[b, s, heads * head_size]`, which keeps its dims."""
    if part == "v":
        return x
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
    return _joined(g, split, heads * attention.head_size, f"{name}.normed.joined")


def _joined(g: GraphBuilder, x: str, width: int, name: str) -> str:
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


def updated(parts: Parts, past: Cache, k: str, v: str, layer: int) -> Cache:
    """Write new keys and values into their slots; in place where a buffer is shared."""
    axis = 2 if parts.order == "heads" else 1

    def scatter(old: str, new: str, name: str) -> str:
        inputs = [old, new, parts.at.write_indices]
        return parts.g.node("TensorScatter", inputs, name, axis=axis, mode="linear")

    return Cache(
        scatter(past.key, k, f"present_key.{layer}"),
        scatter(past.value, v, f"present_value.{layer}"),
    )


def attend(
    parts: Parts, attention: Attention | LatentAttention, q: str, cache: Cache, name: str
) -> str:
    """One `Attention` node -> `[b, num_attention_heads, s, value_size]`, or as its queries."""
    visible = parts.at.visible(attention)
    if attention.softcap is not None and parts.dialect == "tensorrt":
        return capped_attention(parts.g, attention, q, cache.key, cache.value, visible, name)
    attributes: dict[str, Any] = {"scale": attention.scale}
    if attention.softcap is not None:
        attributes["softcap"] = attention.softcap
    if parts.order == "tokens":
        attributes["q_num_heads"] = attention.num_attention_heads
        attributes["kv_num_heads"] = attention.num_key_value_heads
    inputs, causal = attention_inputs(q, cache, visible)
    return parts.g.node("Attention", inputs, name, **attributes, **causal)


def attention_inputs(q: str, cache: Cache, visible: Visible) -> tuple[list[str], dict[str, int]]:
    """Inputs of an `Attention` node, and its `is_causal`."""
    if visible.mask is not None:
        return [q, cache.key, cache.value, visible.mask], {}
    assert visible.lengths is not None
    return [q, cache.key, cache.value, "", "", "", visible.lengths], {"is_causal": 1}


def output(parts: Parts, attention: Attention | LatentAttention, layer: int, context: str) -> str:
    """The output projection: `[b, heads, s, value_size]` -> `[b, s, hidden_size]`."""
    g, scope = parts.g, f"layers.{layer}.attention"
    width = attention.num_attention_heads * attention.value_size
    x = g.node("Transpose", [context], f"{scope}.by_token", perm=[0, 2, 1, 3])
    return dense(parts, layer, _joined(g, x, width, f"{scope}.joined"))


def dense(parts: Parts, layer: int, x: str) -> str:
    """The output projection of `[b, s, heads * value_size]`: -> `[b, s, hidden_size]`."""
    weights, scope, bias = parts.weights, f"layers.{layer}.attention", "attention.dense.bias"
    return linear(
        parts.g,
        x,
        weights.split("attention.dense.weight", 1, layer),
        weights.whole(bias, layer) if weights.has(bias, layer) else None,
        f"{scope}.dense",
    )
