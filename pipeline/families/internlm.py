"""InternLM 7B and 20B, the first version (InternLMForCausalLM).

Read: the config.json files as published; mindnlp's port of their `modeling_internlm.py`;
TensorRT-LLM 1.x (`models/llama/config.py`, `models/llama/model.py`, `models/llama/convert.py`).

All four linears of attention have biases where `bias` says so, the MLP has none. No tensor differs
from TensorRT-LLM's converter. It ignores `rotary`; here only the published values are understood,
whose type `dynamic`, which has no factor, changes nothing up to `max_position_embeddings`.
"""

from __future__ import annotations

from pipeline.model_classes.llama import LLAMA
from pipeline.weights.config_rules import Constant, Copy, Divides, Neutral
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
    Copy("attn_bias", "flag", ("bias",), default=True),
    Divides("num_attention_heads", "hidden_size"),
    Divides("2", "head_size"),
    Constant("rotary_base", 10000.0),
    Neutral(
        "rotary",
        (None, {"base": 10000, "type": "dynamic"}, {"base": 10000, "type": "origin"}),
        "the rotary base is 10000, without scaling up to `max_position_embeddings`",
    ),
    Neutral("rope_theta", (None, 10000, 10000.0), "the published code does not read it"),
    Neutral("rope_scaling", (None,), "the published code does not read it"),
    Neutral("num_key_value_heads", (None,), "the published code has one K/V head per head"),
    Copy("tie_word_embeddings", "flag", default=False),
    Neutral("model_type", ("internlm",), "the type of its class"),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj", bias="attn_bias"),
    *attention_dense(f"{_ATTENTION}.o_proj", bias="attn_bias"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    *gated_mlp(f"{_SOURCE}.mlp"),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
    *rotary_buffer(_ATTENTION),
)

FAMILY = Family(
    name="internlm",
    architectures=("InternLMForCausalLM",),
    model_class=LLAMA,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
