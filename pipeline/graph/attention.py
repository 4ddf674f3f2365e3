"""Grouped-query self-attention over a KV cache: one `Attention` operator, never its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.config import DecoderConfig
from pipeline.graph.linear import linear
from pipeline.graph.weights import JoinedWeights

Form = Literal["mask", "lengths"]


@dataclass(frozen=True, slots=True)
class Positions:
    """The values that tell every attention where its tokens stand; `b` is batch, `s` is seq."""

    position_ids: str  # int64 [b, s]
    write_indices: str  # int64 [b]: the first cache slot that this step writes
    visible: str  # mask: bool [b, 1, s, max_seq_len]; lengths: int64 [b], filled slots after it
    cos: str  # [max_seq_len, head_size / 2]
    sin: str  # [max_seq_len, head_size / 2]
    form: Form


@dataclass(frozen=True, slots=True)
class Cache:
    """Keys and values of one layer, `[b, num_key_value_heads, max_seq_len, head_size]` each."""

    key: str
    value: str


def self_attention(
    g: GraphBuilder,
    config: DecoderConfig,
    weights: JoinedWeights,
    layer: int,
    hidden: str,
    past: Cache,
    at: Positions,
) -> tuple[str, Cache]:
    """Attention of one layer on `[b, s, hidden_size]`, and the updated cache."""
    scope = f"layers.{layer}.attention"
    q = _heads(g, config, weights, layer, "q", hidden)  # [b, num_attention_heads, s, head_size]
    k = _heads(g, config, weights, layer, "k", hidden)  # [b, num_key_value_heads, s, head_size]
    v = _heads(g, config, weights, layer, "v", hidden)  # [b, num_key_value_heads, s, head_size]
    q, k = _rotate(g, q, at), _rotate(g, k, at)
    present = Cache(
        _scatter(g, past.key, k, at, f"present_key.{layer}"),
        _scatter(g, past.value, v, at, f"present_value.{layer}"),
    )
    context = _attend(g, config, q, present, at, f"{scope}.attend")
    context = g.node("Transpose", [context], f"{scope}.by_token", perm=[0, 2, 1, 3])
    joined = g.node("Reshape", [context, "shape.joined_heads"], f"{scope}.joined")
    return _dense(g, config, weights, layer, joined), present  # [b, s, hidden_size]


def head_shapes(g: GraphBuilder, config: DecoderConfig) -> None:
    """The constant shapes that all layers reshape by; 0 keeps a dim."""
    q_heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    g.constant("shape.q_heads", [0, 0, q_heads, config.head_size])
    g.constant("shape.kv_heads", [0, 0, kv_heads, config.head_size])
    g.constant("shape.joined_heads", [0, 0, q_heads * config.head_size])


def _heads(
    g: GraphBuilder,
    config: DecoderConfig,
    weights: JoinedWeights,
    layer: int,
    part: Literal["q", "k", "v"],
    hidden: str,
) -> str:
    """Project to heads: `[b, s, hidden_size]` -> `[b, heads, s, head_size]`."""
    name = f"layers.{layer}.attention.{part}"
    bias = weights.heads(part, "bias", layer) if config.attn_bias else None
    flat = linear(g, hidden, weights.heads(part, "weight", layer), bias, f"{name}.flat")
    shape = "shape.q_heads" if part == "q" else "shape.kv_heads"
    by_token = g.node("Reshape", [flat, shape], f"{name}.by_token")  # [b, s, heads, head_size]
    return g.node("Transpose", [by_token], name, perm=[0, 2, 1, 3])


def _rotate(g: GraphBuilder, heads: str, at: Positions) -> str:
    """Rotary positions; dim `i` is paired with `i + head_size / 2`, as Hugging Face stores them."""
    inputs = [heads, at.cos, at.sin, at.position_ids]
    return g.node("RotaryEmbedding", inputs, f"{heads}.rotated", interleaved=0)


def _scatter(g: GraphBuilder, past: str, new: str, at: Positions, name: str) -> str:
    """Write new keys or values into their slots of the cache; in place where a buffer is shared."""
    return g.node("TensorScatter", [past, new, at.write_indices], name, axis=2, mode="linear")


def _attend(
    g: GraphBuilder, config: DecoderConfig, q: str, cache: Cache, at: Positions, name: str
) -> str:
    """One `Attention` node -> `[b, num_attention_heads, s, head_size]`.

    TensorRT takes a mask or causality but not both, and drops lengths without an error; ONNX
    Runtime's CUDA provider finds its flash kernels by lengths.
    """
    scale = config.head_size**-0.5
    if at.form == "mask":
        return g.node("Attention", [q, cache.key, cache.value, at.visible], name, scale=scale)
    inputs = [q, cache.key, cache.value, "", "", "", at.visible]
    return g.node("Attention", inputs, name, scale=scale, is_causal=1)


def _dense(
    g: GraphBuilder, config: DecoderConfig, weights: JoinedWeights, layer: int, joined: str
) -> str:
    """The output projection: `[b, s, num_attention_heads * head_size]` -> `[b, s, hidden_size]`."""
    width = config.num_attention_heads * config.head_size
    weight = weights.split("attention.dense.weight", (config.hidden_size, width), 1, layer)
    bias = None
    if config.attn_bias:
        bias = weights.whole("attention.dense.bias", (config.hidden_size,), layer)
    return linear(g, joined, weight, bias, f"layers.{layer}.attention.dense")
