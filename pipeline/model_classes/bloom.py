"""BloomForCausalLM.

Read: TensorRT-LLM 0.17 and 1.x `models/bloom/model.py`, `layers/attention.py`, `layers/mlp.py`. It
has no pipeline: every rank embeds, and none sends. Its norms keep their default epsilon, 1e-5, its
activation is always gelu (by tanh), its positions are always alibi.
"""

from __future__ import annotations

from pipeline.weights.decoder_parameters import (
    EMBEDDING_PARAMETER,
    HEAD_PARAMETER,
    LAYER,
    attention_parameters,
    mlp_parameters,
    norm_parameters,
)
from pipeline.weights.model_class import BASE_KEYS, ModelClass

BLOOM = ModelClass(
    name="BloomForCausalLM",
    keys={
        **BASE_KEYS,
        "hidden_act": "gelu",
        "norm_epsilon": 1e-5,
        "position_embedding_type": "alibi",
    },
    parameters=(
        EMBEDDING_PARAMETER,
        *norm_parameters("transformer.ln_embed", bias="True", on="first"),
        *norm_parameters(f"{LAYER}.input_layernorm", bias="True"),
        *attention_parameters(bias="True"),
        *norm_parameters(f"{LAYER}.post_layernorm", bias="True"),
        *mlp_parameters(gated=False, bias="True"),
        *norm_parameters("transformer.ln_f", bias="True", on="last"),
        HEAD_PARAMETER,
    ),
    is_pipelined=False,
)
