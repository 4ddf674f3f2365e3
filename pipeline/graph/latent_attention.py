"""Multi-head latent attention (DeepSeek): keys and values out of one small vector for all heads.

The cache holds keys and values of every head, expanded: the latent form would need heads of
`kv_lora_rank + qk_rope_head_dim` dims, for which there is no fused kernel. Read: transformers 5
`modeling_deepseek_v2.py`; TensorRT-LLM 1.x `layers/attention.py` (DeepseekV2Attention).
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.graph.attention import attend, output, updated
from pipeline.graph.description import LatentAttention
from pipeline.graph.heads import rotate, split_heads
from pipeline.graph.linear import linear
from pipeline.graph.norm import normed
from pipeline.graph.parts import Cache, Parts, cached_value_size
from pipeline.graph.weights import Joined


def latent_attention(
    parts: Parts, attention: LatentAttention, layer: int, hidden: str, past: Cache
) -> tuple[str, Cache]:
    """Attention of one layer on `[b, s, hidden_size]`, and the updated cache."""
    parts = replace(parts, order="heads")  # keys and values are put together by heads
    q = _queries(parts, attention, layer, hidden)  # [b, heads, s, key_size]
    k, v = _keys_and_values(parts, attention, layer, hidden)
    name = f"layers.{layer}.attention"
    wide = cached_value_size(attention, parts.dialect)
    v = _as_wide(parts, v, attention.value_size, wide, f"{name}.v.wide")
    present = updated(parts, past, k, v, layer)
    context = attend(parts, attention, q, present, f"{name}.attend")
    context = _as_wide(parts, context, wide, attention.value_size, f"{name}.attend.cut")
    return output(parts, attention, layer, context), present


def _queries(parts: Parts, attention: LatentAttention, layer: int, hidden: str) -> str:
    """`[b, heads, s, qk_nope_head_dim + qk_rope_head_dim]`; only the last part has positions."""
    g, weights, name = parts.g, parts.weights, f"layers.{layer}.attention.q"
    rank = attention.q_lora_rank
    if rank is not None:
        narrow = weights.rows("attention.fused_a.weight", 0, rank, layer)
        latent = linear(g, hidden, narrow, None, f"{name}.latent")  # [b, s, q_lora_rank]
        scale = weights.whole("attention.q_a_layernorm.weight", layer)
        hidden = normed(g, attention.latent_norm, latent, scale, None, f"{name}.normed")
    flat = linear(g, hidden, weights.split("attention.q_b_proj", 0, layer), None, f"{name}.flat")
    heads = _by_head(parts, flat, attention.num_attention_heads, attention.key_size, name)
    sizes = [attention.qk_nope_head_dim, attention.qk_rope_head_dim]
    cut = g.shared("latent.sizes", lambda n: g.constant(n, sizes))
    plain, placed = g.several("Split", [heads, cut], [f"{name}.plain", f"{name}.placed"], axis=-1)
    return g.node("Concat", [plain, rotate(parts, attention, placed)], name, axis=-1)


def _keys_and_values(
    parts: Parts, attention: LatentAttention, layer: int, hidden: str
) -> tuple[str, str]:
    """`[b, heads, s, key_size]` and `[b, heads, s, v_head_dim]`.

    `kv_b_proj` holds the rows of all heads' keys, then those of their values.
    """
    g, weights, scope = parts.g, parts.weights, f"layers.{layer}.attention"
    heads, nope = attention.num_attention_heads, attention.qk_nope_head_dim
    start, rank = attention.q_lora_rank or 0, attention.kv_lora_rank
    stored = "attention.fused_a.weight"
    narrow = linear(
        g, hidden, weights.rows(stored, start, rank, layer), None, f"{scope}.kv.latent"
    )  # [b, s, kv_lora_rank]
    scale = weights.whole("attention.kv_a_layernorm.weight", layer)
    latent = normed(g, attention.latent_norm, narrow, scale, None, f"{scope}.kv.normed")
    blocks = (heads * nope, heads * attention.v_head_dim)
    wide: list[Joined] = [weights.block("attention.kv_b_proj", blocks, i, layer) for i in (0, 1)]
    k = linear(g, latent, wide[0], None, f"{scope}.k.flat")
    v = linear(g, latent, wide[1], None, f"{scope}.v.flat")
    k = _by_head(parts, k, heads, nope, f"{scope}.k")
    v = _by_head(parts, v, heads, attention.v_head_dim, f"{scope}.v")
    rows = weights.rows(stored, start + rank, attention.qk_rope_head_dim, layer)
    shared = linear(g, hidden, rows, None, f"{scope}.k.shared")  # [b, s, qk_rope_head_dim]
    one = _by_head(parts, shared, 1, attention.qk_rope_head_dim, f"{scope}.k.shared")
    placed = rotate(parts, attention, one)  # [b, 1, s, qk_rope_head_dim]
    count = g.shared(f"shape.to_{heads}", lambda n: g.constant(n, [1, heads, 1, 1]))
    repeated = g.node("Expand", [placed, count], f"{scope}.k.repeated")
    return g.node("Concat", [k, repeated], f"{scope}.k.whole", axis=-1), v


def _by_head(parts: Parts, flat: str, heads: int, size: int, name: str) -> str:
    """`[b, s, heads * size]` -> `[b, heads, s, size]`."""
    by_token = split_heads(parts.g, flat, heads, size, f"{name}.by_token")
    return parts.g.node("Transpose", [by_token], f"{name}.by_head", perm=[0, 2, 1, 3])


def _as_wide(parts: Parts, x: str, size: int, wanted: int, name: str) -> str:
    """`[..., size]` -> `[..., wanted]`: zeros at the end, or the end cut off.

    By a product with ones on the diagonal, which is exact: ONNX Runtime's CUDA provider has no
    `Pad` for bfloat16.
    """
    if size == wanted:
        return x
    g = parts.g
    chosen = g.shared(f"diagonal.{size}x{wanted}", lambda n: g.diagonal(n, size, wanted))
    return g.node("MatMul", [x, chosen], name)
