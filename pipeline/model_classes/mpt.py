"""MPTForCausalLM.

Read: TensorRT-LLM 0.17 and 1.x `models/mpt/model.py`, `layers/attention.py`, `layers/mlp.py`. Its
modules are split among pp ranks, but their forward pass neither sends nor receives: a checkpoint
for several can be made, an engine of it cannot be built. The last norm has its default epsilon,
1e-5; norms have no bias, the MLP is four times as wide as the model, and positions are always
alibi. The parameters are those of `bias` false, the only value with which it is a model of
transformers: with `bias` the head would have one too.
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

MPT = ModelClass(
    name="MPTForCausalLM",
    keys={
        **BASE_KEYS,
        "hidden_act": "gelu",
        "norm_epsilon": 1e-5,
        "position_embedding_type": "alibi",
        "bias": False,
        "clip_qkv": None,
        "alibi_bias_max": 8,
    },
    parameters=(
        EMBEDDING_PARAMETER,
        *norm_parameters(f"{LAYER}.input_layernorm"),
        *attention_parameters(),
        *norm_parameters(f"{LAYER}.post_layernorm"),
        *mlp_parameters(gated=False),
        *norm_parameters("transformer.ln_f", on="last"),
        HEAD_PARAMETER,
    ),
)
