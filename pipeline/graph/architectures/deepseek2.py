"""DeepseekV2ForCausalLM: multi-head latent attention, and experts after the first layer.

Read: TensorRT-LLM 1.x `models/deepseek_v2/config.py`, `models/deepseek_v2/model.py`,
`layers/attention.py` (DeepseekV2Attention); transformers 5 `modeling_deepseek_v2.py` (norms of the
latent vectors have an epsilon of 1e-6, whatever the model's is; logits are scaled by the square of
yarn's `mscale_all_dim`).
"""

from __future__ import annotations

import math
from dataclasses import replace

from pipeline.graph.architectures.shared import Sizes, experts, norm, rotary, sizes, whole
from pipeline.graph.description import Decoder, LatentAttention, Layer, Mlp, Norm
from pipeline.graph.keys import Keys

ARCHITECTURES = ("DeepseekV2ForCausalLM",)


def read(keys: Keys) -> Decoder:
    """The decoder of a DeepSeek-V2 checkpoint."""
    of = sizes(keys)
    keys.neutral("qk_layernorm", False)
    keys.neutral("position_embedding_type", "rope_gpt_neox", "yarn")
    keys.ignore("rotary_embedding_dim")  # the class goes by `qk_rope_head_dim`
    keys.neutral("first_k_dense_replace", 1)
    keys.neutral("moe_layer_freq", 1)
    keys.neutral("scoring_func", "softmax")
    grouped = keys.choice("topk_method", ("greedy", "group_limited_greedy"))
    mode = keys.object("moe").get("normalization_mode", 1)
    if mode != (0 if grouped == "greedy" else 3):
        keys.faults.append(f"`moe.normalization_mode` is {mode} with `topk_method` `{grouped}`")
    one = _attention(keys, of)
    dense = Layer(one, Mlp("mlp", of.intermediate_size, "silu", "apart"))
    mixed = Layer(one, experts(keys, keys.count("moe_inter_size")))
    layers = (dense, *(mixed,) * (of.num_hidden_layers - 1))
    return Decoder(**whole(keys, of, layers, norm(keys, "rms")))


def _attention(keys: Keys, of: Sizes) -> LatentAttention:
    nope, rope = keys.count("qk_nope_head_dim"), keys.count("qk_rope_head_dim")
    values, rank = keys.count("v_head_dim"), keys.get("q_lora_rank", None)
    whole_rope = replace(of, head_size=rope)
    return LatentAttention(
        num_attention_heads=of.num_attention_heads,
        q_lora_rank=None if rank is None else keys.count("q_lora_rank"),
        kv_lora_rank=keys.count("kv_lora_rank"),
        qk_nope_head_dim=nope,
        qk_rope_head_dim=rope,
        v_head_dim=values,
        scale=(nope + rope) ** -0.5 * _magnitude(keys) ** 2,
        rotary=rotary(keys, whole_rope, interleaved=True),
        latent_norm=Norm("rms", 1e-6),
    )


def _magnitude(keys: Keys) -> float:
    """What yarn multiplies queries and keys with, each."""
    scaling = keys.object("rotary_scaling")
    weight, factor = scaling.get("mscale_all_dim") or 0, scaling.get("factor") or 1.0
    if not all(type(value) in (int, float) for value in (weight, factor)):
        return 1.0  # `rotary_problems` tells it
    return 0.1 * weight * math.log(factor) + 1.0 if weight and factor > 1 else 1.0
