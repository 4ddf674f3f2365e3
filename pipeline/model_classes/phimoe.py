"""Phi3ForCausalLM with experts: what Phi-3.5-MoE becomes.

Read: TensorRT-LLM 0.17 and 1.x `models/phi3/config.py`, `models/phi3/model.py`, `layers/moe.py`,
`layers/attention.py`, `models/modeling_utils.py`. The class tells the variant apart by the
architecture PhiMoEForCausalLM, which gives norms, attention and head biases whatever the config
says, and by the key `moe`, an object that it reads key by key.
"""

from __future__ import annotations

from pipeline.model_classes.phi3 import PHI3_KEYS
from pipeline.weights.config_rules import LEFT_OUT
from pipeline.weights.decoder_parameters import (
    EMBEDDING_PARAMETER,
    HEAD_PARAMETER,
    LAYER,
    attention_parameters,
    expert_parameters,
    norm_parameters,
)
from pipeline.weights.inventory import Parameter
from pipeline.weights.model_class import ModelClass

_ALWAYS = "True"
SPARSE_MIXER = 2
"""The routing of Phi-3.5-MoE (`ExpertScaleNormalizationMode`): two experts, one after the other,
each weighed by a softmax over those logits that are near the best."""

PHI_MOE = ModelClass(
    name="Phi3ForCausalLM",
    keys={
        **PHI3_KEYS,
        "attention_bias": True,
        "longrope_short_mscale": LEFT_OUT,
        "longrope_long_mscale": LEFT_OUT,
        "moe": {
            "num_experts": 0,
            "top_k": 2,
            "normalization_mode": SPARSE_MIXER,
            "sparse_mixer_epsilon": 0.01,
        },
    },
    parameters=(
        EMBEDDING_PARAMETER,
        *norm_parameters(f"{LAYER}.input_layernorm", _ALWAYS),
        *attention_parameters(_ALWAYS),
        *norm_parameters(f"{LAYER}.post_layernorm", _ALWAYS),
        *expert_parameters(),
        *norm_parameters("transformer.ln_f", _ALWAYS, on="last"),
        HEAD_PARAMETER,
        Parameter("lm_head.bias", ("ceil(vocab_size, tp_size)",), on="last"),
    ),
    is_pipelined=False,
)
