"""Skywork-13B (SkyworkForCausalLM): Llama's layout with Python code of its own.

Read: the config.json files as published; TensorRT-LLM 1.x (`models/llama/config.py`,
`models/llama/model.py`, `models/llama/convert.py`), which takes it for Llama. The code that is
published with the checkpoints was not read: keys have no defaults, they must be there, as they are
in all published files.

No tensor differs from TensorRT-LLM's converter. It copies any rope scaling; here `ntk`, which its
class cannot compute, and types that Skywork does not have are refused.
"""

from __future__ import annotations

from pipeline.model_classes.llama import LLAMA
from pipeline.weights.config_rules import Copy, Divides, Formula, Neutral, Rope
from pipeline.weights.decoder_rules import (
    LAYER,
    embedding,
    head,
    norm,
    qkv,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import REMOTE_CODE_KEYS, SIZES
from pipeline.weights.layer_rules import attention_dense, gated_mlp, rotary_buffer
from pipeline.weights.rope import ROPE_TYPES

_CONFIG = (
    *SIZES,
    Copy(
        "hidden_act",
        "text",
        allowed=("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"),
        aliases={"swish": "silu"},
    ),
    Copy("norm_epsilon", "number", ("rms_norm_eps",)),
    Copy("max_position_embeddings", "count"),
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads")),
    Divides("num_attention_heads", "hidden_size"),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Rope(
        "rotary_base",
        "rotary_scaling",
        default_base=None,
        types={name: ROPE_TYPES[name] for name in ("linear", "dynamic")},
    ),
    Copy("tie_word_embeddings", "flag"),
    Neutral("model_type", ("skywork",), "the type of its class"),
    Neutral("attention_bias", (None, False), "no variant has biases"),
    Neutral("mlp_bias", (None, False), "no variant has biases"),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj"),
    *attention_dense(f"{_ATTENTION}.o_proj"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    *gated_mlp(f"{_SOURCE}.mlp"),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
    *rotary_buffer(_ATTENTION),
)

FAMILY = Family(
    name="skywork",
    architectures=("SkyworkForCausalLM",),
    model_class=LLAMA,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
