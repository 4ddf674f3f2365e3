"""Gemma 1 and 1.1, CodeGemma.

Read: transformers 4.57 and 5.23 (`configuration_gemma.py`, `modeling_gemma.py`); TensorRT-LLM 1.x
(`models/gemma/config.py`, `models/gemma/model.py`, `models/gemma/convert.py`). transformers
multiplies a normed value with 1 + weight, TensorRT-LLM with the weight: 1 is added, in float32.

Otherwise than TensorRT-LLM's converter, all of which the class can compute: a rope scaling is kept
(it looks for `rotary_scaling`, which no config has), so are biases of attention (it drops them) and
a head of its own where the model is not tied; several K/V heads, too, may be fewer than the tp
ranks.
"""

from __future__ import annotations

from pipeline.model_classes.gemma import GEMMA
from pipeline.weights.config_rules import Copy, Divides, Neutral, Rope
from pipeline.weights.decoder_rules import (
    LAYER,
    embedding,
    head,
    norm,
    qkv,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import GENERAL_KEYS, SIZES
from pipeline.weights.layer_rules import attention_dense, gated_mlp, rotary_buffer
from pipeline.weights.rope import ROPE_TYPES
from pipeline.weights.rules import Plus

_CONFIG = (
    *SIZES,
    Copy("attn_bias", "flag", ("attention_bias",), default=False),
    Rope("rotary_base", "rotary_scaling", default_base=10000.0, types=ROPE_TYPES),
    # The first configs name the exact function; the model always had the approximation.
    Copy(
        "hidden_act",
        "text",
        default="gelu_pytorch_tanh",
        allowed=("gelu_pytorch_tanh",),
        aliases={"gelu": "gelu_pytorch_tanh"},
    ),
    Neutral("hidden_activation", (None, "gelu_pytorch_tanh"), "what the model always had"),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-6),
    Copy("max_position_embeddings", "count", default=8192),
    Copy("num_key_value_heads", "count"),
    Copy("head_size", "count", ("head_dim",), default=256),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Copy("tie_word_embeddings", "flag", default=True, written=False),
    Neutral("use_bidirectional_attention", (None, False), "decoders attend to earlier tokens only"),
    Neutral("model_type", ("gemma",), "the type of its class"),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"
_ADD_ONE = Plus(1.0)

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm", change=_ADD_ONE),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj", bias="attn_bias"),
    *attention_dense(f"{_ATTENTION}.o_proj", bias="attn_bias"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm", change=_ADD_ONE),
    *gated_mlp(f"{_SOURCE}.mlp"),
    *norm("model.norm", "transformer.ln_f", on="last", change=_ADD_ONE),
    *head("lm_head.weight", "model.embed_tokens.weight"),
    *rotary_buffer(_ATTENTION),
)

FAMILY = Family(
    name="gemma",
    architectures=("GemmaForCausalLM",),
    model_class=GEMMA,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
