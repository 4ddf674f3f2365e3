"""DbrxForCausalLM: grouped-query attention with clipped QKV, and a mixture of gated experts.

Read: TensorRT-LLM 1.x `models/dbrx/config.py`, `models/dbrx/model.py`, `layers/attention.py`,
`layers/moe.py`. The class never shares its embedding among ranks.
"""

from __future__ import annotations

from pipeline.weights.config_rules import REQUIRED
from pipeline.weights.decoder_parameters import (
    HEAD_PARAMETER,
    LAYER,
    attention_parameters,
    expert_parameters,
    norm_parameters,
)
from pipeline.weights.inventory import Parameter
from pipeline.weights.model_class import BASE_KEYS, NO_EXPERTS, ModelClass

DBRX = ModelClass(
    name="DbrxForCausalLM",
    keys={
        **BASE_KEYS,
        "bias": False,
        "clip_qkv": None,
        "rotary_base": REQUIRED,
        "rotary_scaling": None,
        "moe": NO_EXPERTS,
    },
    parameters=(
        Parameter("transformer.vocab_embedding.weight", ("vocab_size", "hidden_size"), on="first"),
        *norm_parameters(f"{LAYER}.input_layernorm"),
        *attention_parameters(),
        *norm_parameters(f"{LAYER}.post_layernorm"),
        *expert_parameters(),
        *norm_parameters("transformer.ln_f", on="last"),
        HEAD_PARAMETER,
    ),
)
