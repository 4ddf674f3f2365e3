"""Attention with soft-capped logits out of plain operators, where `Attention` cannot say it.

TensorRT's parser refuses `softcap`, and its attention layer has none: this form is never fused, and
written only where a recipe asks for unfused attention.
"""

from __future__ import annotations

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.description import Attention, LatentAttention
from pipeline.graph.visibility import Visible


def capped_attention(
    g: GraphBuilder,
    attention: Attention | LatentAttention,
    q: str,
    k: str,
    v: str,
    visible: Visible,
    name: str,
) -> str:
    """q `[b, heads, s, d]`, k and v `[b, kv_heads, t, d]` -> `[b, heads, s, d]`.

    Each K/V head serves `heads / kv_heads` queries, which are seen as a dim of their own.
    """
    heads, kv_heads, size = _sizes(attention)
    grouped = g.shared(
        f"shape.grouped.{kv_heads}x{heads // kv_heads}",
        lambda n: g.constant(n, [0, kv_heads, heads // kv_heads, -1, size]),
    )
    one = g.shared("axis.2", lambda n: g.constant(n, [2]))
    scaled = g.scaled(q, attention.scale, f"{name}.scaled")
    queries = g.node("Reshape", [scaled, grouped], f"{name}.grouped")  # [b, kv, group, s, d]
    turned = g.node("Transpose", [k], f"{name}.keys_t", perm=[0, 1, 3, 2])
    keys = g.node("Unsqueeze", [turned, one], f"{name}.keys")  # [b, kv, 1, d, t]
    values = g.node("Unsqueeze", [v, one], f"{name}.values")  # [b, kv, 1, t, d]
    logits = g.node("MatMul", [queries, keys], f"{name}.logits")  # [b, kv, group, s, t]
    capped = soft_capped(g, logits, _cap(attention), f"{name}.capped")
    assert visible.mask is not None, "soft-capped attention takes a mask"
    assert attention.alibi is None, "a bool mask"
    assert attention.block_sparse is None, "one mask for all heads"
    mask = g.shared(
        f"{visible.mask}.grouped", lambda n: g.node("Unsqueeze", [visible.mask or "", one], n)
    )  # [b, 1, 1, s, t]
    lowest = g.shared("lowest", lambda n: g.number(g.lowest, n))
    seen = g.node("Where", [mask, capped, lowest], f"{name}.seen")
    weights = g.node("Softmax", [seen], f"{name}.weights", axis=-1)
    mixed = g.node("MatMul", [weights, values], f"{name}.mixed")  # [b, kv, group, s, d]
    joined = g.shared(f"shape.heads.{heads}", lambda n: g.constant(n, [0, heads, -1, size]))
    return g.node("Reshape", [mixed, joined], name)


def soft_capped(g: GraphBuilder, x: str, cap: float, name: str) -> str:
    """`cap * tanh(x / cap)`, of any shape."""
    bounded = g.node("Tanh", [g.scaled(x, 1 / cap, f"{name}.divided")], f"{name}.tanh")
    return g.scaled(bounded, cap, name)


def _cap(attention: Attention | LatentAttention) -> float:
    assert attention.softcap is not None
    return float(attention.softcap)


def _sizes(attention: Attention | LatentAttention) -> tuple[int, int, int]:
    assert attention.key_size == attention.value_size
    return attention.num_attention_heads, attention.num_key_value_heads, attention.key_size
