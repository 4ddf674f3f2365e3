"""Gemma 2: four norms per layer, soft-capped scores and logits, a window in every other layer.

Read: transformers 4.57 and 5.23 (`configuration_gemma2.py`, `modeling_gemma2.py`); TensorRT-LLM 1.x
(`models/gemma/config.py`, `models/gemma/model.py`, `models/gemma/convert.py`,
`models/modeling_utils.py`, Gemma2ConfigGroup). transformers multiplies a normed value with
1 + weight, TensorRT-LLM with the weight: 1 is added, in float32.

The class attends to all tokens in every layer, so its engine is right up to `sliding_window`
tokens. Otherwise than TensorRT-LLM's converter, all of which the class can compute: a rope scaling
is kept (it looks for `rotary_scaling`, which no config has), so are biases of attention (it drops
them) and a head of its own where the model is not tied; several K/V heads, too, may be fewer than
the tp ranks. Models without soft-capping (null) are refused: no published one is without.
"""

from __future__ import annotations

from pipeline.model_classes.gemma import GEMMA2
from pipeline.weights.config_rules import Copy, Divides, Inert, Neutral, Rope, Window
from pipeline.weights.decoder_rules import (
    LAYER,
    embedding,
    head,
    norm,
    qkv,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import GENERAL_KEYS, LAYER_TYPES, SIZES
from pipeline.weights.layer_rules import attention_dense, gated_mlp
from pipeline.weights.rope import ROPE_TYPES
from pipeline.weights.rules import Plus

_EVERY_OTHER = "every other layer has the window, or those that `layer_types` names"

_CONFIG = (
    *SIZES,
    Copy("attn_bias", "flag", ("attention_bias",), default=False),
    Rope("rotary_base", "rotary_scaling", default_base=10000.0, types=ROPE_TYPES),
    Copy(
        "hidden_act",
        "text",
        ("hidden_activation", "hidden_act"),
        default="gelu_pytorch_tanh",
        allowed=("gelu_pytorch_tanh",),
    ),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-6),
    Copy("max_position_embeddings", "count", default=8192),
    Copy("num_key_value_heads", "count"),
    Copy("head_size", "count", ("head_dim",), default=256),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Copy("query_pre_attn_scalar", "number", default=256),
    # No defaults: absent ones are 30 and 50, but null means none.
    Copy("final_logit_softcapping", "number"),
    Copy("attn_logit_softcapping", "number"),
    Copy("tie_word_embeddings", "flag", default=True, written=False),
    *LAYER_TYPES,
    Window(
        "sliding_window",
        default=4096,
        layers="layer_types[layer] == 'sliding_attention' if layer_types else layer % 2 == 0",
        when="True",
    ),
    Neutral("sliding_window_pattern", (None, 2), _EVERY_OTHER),
    Neutral("_sliding_window_pattern", (None, 2), _EVERY_OTHER),
    Neutral("use_bidirectional_attention", (None, False), "decoders attend to earlier tokens only"),
    Neutral("model_type", ("gemma2",), "the type of its class"),
    Inert(("sliding_window_size",), "another spelling of `sliding_window`, not read"),
    Inert(("cache_implementation",), "how transformers runs it"),
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
    *norm(
        f"{_SOURCE}.pre_feedforward_layernorm",
        f"{LAYER}.pre_feedforward_layernorm",
        change=_ADD_ONE,
    ),
    *gated_mlp(f"{_SOURCE}.mlp"),
    *norm(
        f"{_SOURCE}.post_feedforward_layernorm",
        f"{LAYER}.post_feedforward_layernorm",
        change=_ADD_ONE,
    ),
    *norm("model.norm", "transformer.ln_f", on="last", change=_ADD_ONE),
    *head("lm_head.weight", "model.embed_tokens.weight"),
)

FAMILY = Family(
    name="gemma2",
    architectures=("Gemma2ForCausalLM",),
    model_class=GEMMA2,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
