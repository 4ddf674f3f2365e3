"""Phi3ForCausalLM: Phi-3 to Phi-4, Phi-3-small and Phi-3.5-MoE, told apart by the architecture.

Read: TensorRT-LLM 1.x `models/phi3/config.py`, `models/phi3/model.py`; transformers 5
`modeling_phi3.py`, `modeling_phimoe.py`; the published code of Phi-3-small
(`modeling_phi3_small.py`: muP multipliers, block-sparse attention in all layers but each
`dense_attention_every_n_layers`th).
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.graph.architectures.shared import (
    Sizes,
    attention,
    experts,
    norm,
    rotary,
    sizes,
    whole,
    windows,
)
from pipeline.graph.description import BlockSparse, Decoder, Layer, Mlp
from pipeline.graph.keys import Keys
from pipeline.graph.rotary_description import Rotary

ARCHITECTURES = ("Phi3ForCausalLM", "Phi3SmallForCausalLM", "PhiMoEForCausalLM")


def read(keys: Keys) -> Decoder:
    """The decoder of a Phi-3 checkpoint."""
    of, architecture = sizes(keys), keys.get("architecture")
    keys.neutral("qk_layernorm", False)
    positions = _rotary(keys, of)
    if architecture == "Phi3SmallForCausalLM":
        return _small(keys, of, positions)
    seen = windows(keys, of.num_hidden_layers)
    attentions = [attention(of, rotary=positions, window=window) for window in seen]
    if architecture == "PhiMoEForCausalLM":
        keys.neutral("attention_bias", True)
        layers = tuple(Layer(one, experts(keys, of.intermediate_size)) for one in attentions)
        return Decoder(**whole(keys, of, layers, norm(keys, "layer")))
    keys.choice("hidden_act", ("swiglu",))
    mlp = Mlp("mlp", of.intermediate_size, "silu", "fused")
    layers = tuple(Layer(one, mlp) for one in attentions)
    return Decoder(**whole(keys, of, layers, norm(keys, "rms")))


def _rotary(keys: Keys, of: Sizes) -> Rotary:
    """Part of a head is rotated (Phi-4-mini); long rope where the class finds its factors."""
    keys.number("rotary_pct", 1.0)  # what `rotary_embedding_dim` was made from
    plain = rotary(keys, of, dim=keys.count("rotary_embedding_dim", of.head_size))
    if "longrope_scaling_short_factors" not in keys:
        keys.neutral("position_embedding_type", "rope_gpt_neox")
        return plain
    keys.neutral("position_embedding_type", "long_rope")
    keys.neutral("rotary_scaling")
    short, long = (keys.numbers(f"longrope_scaling_{name}_factors") for name in ("short", "long"))
    scales = [keys.limit(f"longrope_{name}_mscale") for name in ("short", "long")]
    return replace(
        plain,
        short_factors=short,
        long_factors=long,
        short_mscale=scales[0],
        long_mscale=scales[1],
        original_max_position_embeddings=keys.count("original_max_position_embeddings"),
    )


def _small(keys: Keys, of: Sizes, positions: Rotary) -> Decoder:
    keys.choice("hidden_act", ("gegelu",))
    limit = keys.limit("gegelu_limit")
    multiplier = keys.number("mup_attn_multiplier", 1.0)
    scale = multiplier / of.head_size if keys.flag("mup_use_scaling") else of.head_size**-0.5
    sparse = BlockSparse(
        block_size=keys.count("blocksparse_block_size"),
        num_local_blocks=keys.count("blocksparse_num_local_blocks"),
        vertical_stride=keys.count("blocksparse_vertical_stride"),
        homogeneous=keys.flag("blocksparse_homo_head_pattern"),
    )
    period = keys.count("dense_attention_every_n_layers")
    mlp = Mlp("mlp", of.intermediate_size, "gegelu", "gegelu", limit)
    dense = attention(of, rotary=positions, scale=scale)
    layers = tuple(
        Layer(dense if (layer + 1) % period == 0 else replace(dense, block_sparse=sparse), mlp)
        for layer in range(of.num_hidden_layers)
    )
    return Decoder(
        **whole(keys, of, layers, norm(keys, "layer")),
        embedding_multiplier=keys.number("mup_embedding_multiplier", 1.0),
        logits_multiplier=1 / keys.positive("mup_width_multiplier"),
    )
