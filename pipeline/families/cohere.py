"""Cohere Command R, R+ (with norms of queries and keys) and Aya 23.

Read: transformers 4.57 and 5.23 (`configuration_cohere.py`, `modeling_cohere.py`); TensorRT-LLM 1.x
(`models/commandr/config.py`, `models/commandr/model.py`, `models/model_weights_loader.py`,
`layers/attention.py`).

Otherwise than TensorRT-LLM's converter: a rope scaling, which the class does not have, is refused,
not passed over; with fewer K/V heads than tp ranks the norms of keys are those of a rank's own head
(the converter cuts past their end, and fills up with zeros). With one rank
`use_parallel_embedding` is as the plan decides: the converter writes true, which does nothing.
`rope_theta` must be there, for transformers 4 takes 10000 and transformers 5 takes 500000.
"""

from __future__ import annotations

from pipeline.model_classes.cohere import COHERE
from pipeline.weights.config_rules import (
    Copy,
    Divides,
    Formula,
    Inert,
    Neutral,
    Require,
    Rope,
)
from pipeline.weights.decoder_rules import (
    KEYS,
    LAYER,
    QUERIES,
    embedding,
    head,
    norm,
    qkv,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import GENERAL_KEYS, SIZES
from pipeline.weights.layer_rules import attention_dense, gated_mlp, rotary_buffer
from pipeline.weights.rope import ROPE_TYPES
from pipeline.weights.rules import Make, Part

_CONFIG = (
    *SIZES,
    Copy("attn_bias", "flag", ("attention_bias",), default=False),
    Rope("rotary_base", None, default_base=None, types=ROPE_TYPES),
    Copy(
        "hidden_act",
        "text",
        default="silu",
        allowed=("silu", "gelu_new", "gelu_pytorch_tanh", "relu"),
        aliases={"swish": "silu"},
    ),
    Copy("norm_epsilon", "number", ("layer_norm_eps",), default=1e-5),
    Copy("max_position_embeddings", "count", default=8192),
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads")),
    Copy("head_size", "count", ("head_dim",), default=Formula("hidden_size/num_attention_heads")),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Copy("qk_layernorm", "flag", ("use_qk_norm",), default=False),
    Require(
        "not qk_layernorm or num_key_value_heads < num_attention_heads or num_attention_heads == 1",
        "as many K/V heads as query heads, with norms of both: TensorRT-LLM's attention takes "
        "queries, keys and values for interleaved then",
    ),
    Copy("output_multiplier_scale", "number", ("logit_scale",), default=0.0625),
    Copy("tie_word_embeddings", "flag", default=True, written=False),
    Neutral("model_type", ("cohere",), "the type of its class"),
    Inert(("model_max_length",), "how long its tokenizer lets texts be"),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj", bias="attn_bias"),
    Make(
        f"{LAYER}.attention.q_layernorm.weight",
        (Part(f"{_ATTENTION}.q_norm.weight", ("num_attention_heads", "head_size"), (QUERIES,)),),
        when="qk_layernorm",
    ),
    Make(
        f"{LAYER}.attention.k_layernorm.weight",
        (Part(f"{_ATTENTION}.k_norm.weight", ("num_key_value_heads", "head_size"), (KEYS,)),),
        when="qk_layernorm",
    ),
    *attention_dense(f"{_ATTENTION}.o_proj", bias="attn_bias"),
    *gated_mlp(f"{_SOURCE}.mlp"),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
    *rotary_buffer(_ATTENTION),
)

FAMILY = Family(
    name="cohere",
    architectures=("CohereForCausalLM",),
    model_class=COHERE,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
