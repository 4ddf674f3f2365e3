"""LLaMAForCausalLM: pre-norm RMS, rotary positions, gated MLP or experts, one residual each.

Read: TensorRT-LLM 1.x `models/llama/config.py`, `models/llama/model.py`, `layers/attention.py`
(`attention_multiplier`: logits are divided by `sqrt(head_size) * q_scaling`, where
`q_scaling = 1 / attention_multiplier`).
"""

from __future__ import annotations

import math

from pipeline.graph.architectures.shared import (
    Sizes,
    attention,
    experts,
    has_experts,
    norm,
    rotary,
    sizes,
    whole,
    windows,
)
from pipeline.graph.description import Decoder, Experts, Layer, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = (
    *("LlamaForCausalLM", "MistralForCausalLM", "ExaoneForCausalLM", "InternLMForCausalLM"),
    *("InternLM2ForCausalLM", "SkyworkForCausalLM", "MixtralForCausalLM"),
    *("GraniteForCausalLM", "GraniteMoeForCausalLM"),
)

ACTIVATIONS = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
"""As Hugging Face means them: the source's word is kept."""


def read(keys: Keys) -> Decoder:
    """The decoder of a LLaMA-like checkpoint."""
    of = sizes(keys)
    keys.neutral("qk_layernorm", False)
    keys.neutral("residual_mlp", False)
    keys.neutral("fc_after_embed", False)
    keys.neutral("use_input_layernorm_in_first_layer", True)
    keys.neutral("use_last_layernorm", True)
    keys.neutral("layer_idx_offset", 0)
    keys.neutral("position_embedding_type", "rope_gpt_neox", "yarn")
    keys.neutral("rotary_pct", 1, 1.0)
    keys.neutral("rotary_embedding_dim", of.head_size)
    keys.ignore("attn_bias", "mlp_bias")  # said by the tensors
    scale = keys.number("attention_multiplier", 1.0) / math.sqrt(of.head_size)
    layers = tuple(
        Layer(
            attention(of, scale=scale, rotary=rotary(keys, of), window=window),
            _mlp(keys, of),
            residual_multiplier=keys.number("residual_multiplier", 1.0),
        )
        for window in windows(keys, of.num_hidden_layers)
    )
    return Decoder(
        **whole(keys, of, layers, norm(keys, "rms")),
        embedding_multiplier=keys.number("embedding_multiplier", 1.0),
        logits_multiplier=keys.number("output_multiplier_scale", 1.0),
    )


def _mlp(keys: Keys, of: Sizes) -> Mlp | Experts:
    if has_experts(keys):
        return experts(keys, of.intermediate_size)
    activation = keys.choice("hidden_act", ACTIVATIONS)
    return Mlp("mlp", of.intermediate_size, activation, "apart")
