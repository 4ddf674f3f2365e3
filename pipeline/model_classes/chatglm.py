"""ChatGLMForCausalLM, as ChatGLM2, ChatGLM3 and GLM-4 use it.

Read: TensorRT-LLM 0.17 and 1.x `models/chatglm/config.py`, `models/chatglm/model.py`,
`models/__init__.py` (the architectures ChatGLMModel and ChatGLMForCausalLM are both this class),
`layers/attention.py`, `layers/mlp.py` (with swiglu `fc` has both halves of a gated MLP). It has no
pipeline: every rank embeds, and none sends. What is rotated follows from `rotary_pct`; it does not
read `rotary_embedding_dim`.
"""

from __future__ import annotations

from pipeline.weights.config_rules import REQUIRED
from pipeline.weights.decoder_parameters import (
    EMBEDDING_PARAMETER,
    HEAD_PARAMETER,
    LAYER,
    MLP_ROWS,
    QKV_ROWS,
    QUERY_ROWS,
    linear_parameters,
    norm_parameters,
)
from pipeline.weights.model_class import BASE_KEYS, ModelClass

CHATGLM = ModelClass(
    name="ChatGLMForCausalLM",
    keys={
        **BASE_KEYS,
        "hidden_act": "swiglu",
        "position_embedding_type": "rope_gptj",
        "chatglm_version": REQUIRED,
        "add_bias_linear": False,
        "add_qkv_bias": True,
        "apply_query_key_layer_scaling": False,
        "apply_residual_connection_post_layernorm": False,
        "rmsnorm": True,
        "rotary_pct": 0.5,
        "rotary_base": REQUIRED,
        "rotary_scaling": None,
    },
    parameters=(
        EMBEDDING_PARAMETER,
        *norm_parameters(f"{LAYER}.input_layernorm"),
        *linear_parameters(f"{LAYER}.attention.qkv", QKV_ROWS, "hidden_size", bias="add_qkv_bias"),
        *linear_parameters(f"{LAYER}.attention.dense", "hidden_size", QUERY_ROWS),
        *norm_parameters(f"{LAYER}.post_layernorm"),
        *linear_parameters(f"{LAYER}.mlp.fc", f"2*({MLP_ROWS})", "hidden_size"),
        *linear_parameters(f"{LAYER}.mlp.proj", "hidden_size", MLP_ROWS),
        *norm_parameters("transformer.ln_f", on="last"),
        HEAD_PARAMETER,
    ),
    is_pipelined=False,
)
