"""DeepseekForCausalLM (the first DeepSeek MoE): as LLaMA, with experts after the first layer.

Read: TensorRT-LLM 1.x `models/deepseek_v1/config.py`, `models/deepseek_v1/model.py`; the published
`modeling_deepseek.py` of DeepSeek-MoE-16B.
"""

from __future__ import annotations

from pipeline.graph.architectures.shared import attention, experts, norm, rotary, sizes, whole
from pipeline.graph.description import Decoder, Layer, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = ("DeepseekForCausalLM",)


def read(keys: Keys) -> Decoder:
    """The decoder of a DeepSeek checkpoint."""
    of = sizes(keys)
    keys.neutral("qk_layernorm", False)
    keys.neutral("position_embedding_type", "rope_gpt_neox")
    keys.neutral("rotary_embedding_dim", of.head_size)
    keys.neutral("first_k_dense_replace", 1)
    keys.neutral("moe_layer_freq", 1)
    one = attention(of, rotary=rotary(keys, of))
    dense = Layer(one, Mlp("mlp", of.intermediate_size, "silu", "apart"))
    mixed = Layer(one, experts(keys, keys.count("moe_intermediate_size")))
    layers = (dense, *(mixed,) * (of.num_hidden_layers - 1))
    return Decoder(**whole(keys, of, layers, norm(keys, "rms")))
