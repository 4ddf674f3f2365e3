"""Granite 3.x, dense.

Read: transformers 4.57 and 5.23 (`configuration_granite.py`, `modeling_granite.py`), the
config.json files as published; TensorRT-LLM 1.x (`models/llama/config.py`, `models/llama/model.py`,
`models/modeling_utils.py`, `layers/attention.py`).

The class computes the four multipliers: it divides scores by `sqrt(head_size)` and multiplies them
with `attention_multiplier`, so that of the source is multiplied with `sqrt(head_size)`.

Differences from TensorRT-LLM's converter, with the reasons:
- An `attention_multiplier` of 1, which is transformers' default, is multiplied with
  `sqrt(head_size)` too: transformers scales by it as it is.
- It drops the biases of an MLP (`mlp_bias`), for which the class has parameters.

With the build option `reduce_fusion` the class leaves out `residual_multiplier`.
"""

from __future__ import annotations

from pipeline.model_classes.llama import LLAMA
from pipeline.weights.config_rules import Computed, Copy, Divides, Formula, Neutral, Rope
from pipeline.weights.decoder_rules import (
    LAYER,
    embedding,
    head,
    norm,
    qkv,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import GENERAL_KEYS, SIZES
from pipeline.weights.layer_rules import attention_dense, gated_mlp
from pipeline.weights.rope import ROPE_TYPES

_CONFIG = (
    *SIZES,
    Copy(
        "hidden_act",
        "text",
        default="silu",
        allowed=("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"),
        aliases={"swish": "silu"},
    ),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-6),
    Copy("max_position_embeddings", "count", default=2048),
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads")),
    Copy("head_size", "count", ("head_dim",), default=Formula("hidden_size/num_attention_heads")),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Rope("rotary_base", "rotary_scaling", default_base=10000.0, types=ROPE_TYPES),
    Copy("attn_bias", "flag", ("attention_bias",), default=False),
    Copy("mlp_bias", "flag", default=False),
    Copy("tie_word_embeddings", "flag", default=False),
    Copy("embedding_multiplier", "number", default=1.0),
    Copy("residual_multiplier", "number", default=1.0),
    Copy("score_multiplier", "number", ("attention_multiplier",), default=1.0, written=False),
    Computed("attention_multiplier", "score_multiplier*sqrt(head_size)"),
    Copy("logits_scaling", "number", default=1.0, written=False),
    Computed("output_multiplier_scale", "quotient(1, logits_scaling)"),
    Neutral("model_type", ("granite",), "the type of its class"),
    Neutral("partial_rotary_factor", (None, 1, 1.0), "all of a head is rotated"),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj", bias="attn_bias"),
    *attention_dense(f"{_ATTENTION}.o_proj", bias="attn_bias"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    *gated_mlp(f"{_SOURCE}.mlp", bias="mlp_bias"),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
)

FAMILY = Family(
    name="granite",
    architectures=("GraniteForCausalLM",),
    model_class=LLAMA,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
