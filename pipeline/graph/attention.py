"""Grouped-query self-attention over a KV cache: one `Attention` operator, never its parts.

b = batch, s = seq (tokens of this step), t = cache slots; heads: `num_attention_heads` of queries,
`num_key_value_heads` of keys and values.
"""

from __future__ import annotations

from typing import Any

from pipeline.graph.description import Attention, LatentAttention
from pipeline.graph.heads import heads_of, joined_heads
from pipeline.graph.linear import output_linear
from pipeline.graph.parts import Cache, Parts
from pipeline.graph.softcap import capped_attention
from pipeline.graph.visibility import Visible


def self_attention(
    parts: Parts, attention: Attention, layer: int, hidden: str, past: Cache
) -> tuple[str, Cache]:
    """Attention of one layer on `[b, s, hidden_size]`, and the updated cache."""
    scope = f"layers.{layer}.attention"
    q = heads_of(parts, attention, layer, "q", hidden)  # [b, num_attention_heads, s, d]
    k = heads_of(parts, attention, layer, "k", hidden)  # [b, num_key_value_heads, s, d]
    v = heads_of(parts, attention, layer, "v", hidden)  # [b, num_key_value_heads, s, d]
    present = updated(parts, past, k, v, layer)  # by tokens all are [b, s, heads * head_size]
    context = attend(parts, attention, q, present, f"{scope}.attend")
    if parts.order == "tokens":
        return dense(parts, layer, context), present
    return output(parts, attention, layer, context), present  # [b, s, hidden_size]


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
    return dense(parts, layer, joined_heads(g, x, width, f"{scope}.joined"))


def dense(parts: Parts, layer: int, x: str) -> str:
    """The output projection of `[b, s, heads * value_size]`: -> `[b, s, hidden_size]`."""
    return output_linear(parts.g, parts.weights, "attention.dense", layer, x)
