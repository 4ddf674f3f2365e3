"""Falcon 7B, 40B, 180B, 11B (Falcon 2) and RW 1B and 7B, also as first published (`RWForCausalLM`).

Read: transformers 4.57 and 5.23 (`configuration_falcon.py`, `modeling_falcon.py`); the code of the
first releases (`configuration_RW.py`, `modelling_RW.py`); TensorRT-LLM 0.17 and 1.x
(`models/falcon/config.py`, `convert.py`, `model.py`).

Differences from TensorRT-LLM's converter:
- It passes over `rope_scaling`, an `activation` that is not gelu, an epsilon that is not 1e-5
  (which two of the class's norms have always), and combinations of layouts that the class computes
  differently. Such models are refused.
- It takes `num_kv_heads` for the K/V heads of models that are neither multi-query nor of the new
  architecture, where transformers has one for each query head.
"""

from __future__ import annotations

from pipeline.model_classes.falcon import FALCON
from pipeline.weights.config_rules import (
    Computed,
    Constant,
    Copy,
    Divides,
    Formula,
    Inert,
    Neutral,
    Require,
    Rope,
)
from pipeline.weights.decoder_rules import (
    LAYER,
    column_linear,
    embedding,
    fused_qkv,
    head,
    norm,
    row_linear,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import REMOTE_CODE_KEYS
from pipeline.weights.rules import Drop

_FALCON = ("FalconForCausalLM",)
_REFINED_WEB = ("RWForCausalLM",)
_GELU = ("gelu", "gelu_new", "gelu_pytorch_tanh")

_LAYOUT = (
    Copy("bias", "flag", default=False),
    Copy("parallel_attention", "flag", ("parallel_attn",), default=True, only=_FALCON),
    Copy("parallel_attention", "flag", ("parallel_attn",), default=False, only=_REFINED_WEB),
    Copy("num_ln_in_parallel_attn", "count", default=None, allowed=(1, 2), only=_FALCON),
    Copy("new_decoder_architecture", "flag", default=False, only=_FALCON),
    Copy("multi_query", "flag", default=True, written=False, only=_FALCON),
    Copy("multi_query", "flag", default=False, written=False, only=_REFINED_WEB),
    Copy(
        "kv_heads",
        "count",
        ("num_kv_heads", "n_head_kv"),
        default=Formula("num_attention_heads"),
        written=False,
    ),
    Copy("alibi", "flag", default=False, written=False),
    # The first releases have one class for each layout, which only their `model_type` tells apart.
    Neutral("model_type", ("falcon",), "the type of its class", only=_FALCON),
    Copy(
        "model_type",
        "text",
        allowed=("RefinedWeb", "RefinedWebModel"),
        written=False,
        only=_REFINED_WEB,
    ),
    Computed("new_decoder_architecture", "model_type == 'RefinedWeb'", only=_REFINED_WEB),
    Constant("num_ln_in_parallel_attn", None, only=_REFINED_WEB),
    Computed(
        "num_key_value_heads",
        "kv_heads if new_decoder_architecture else 1 if multi_query else num_attention_heads",
    ),
    Computed("position_embedding_type", "'alibi_with_scale' if alibi else 'rope_gpt_neox'"),
    Require(
        "parallel_attention or not new_decoder_architecture",
        "`new_decoder_architecture` without `parallel_attn`: the target has these in parallel",
    ),
    Require(
        "new_decoder_architecture or not (num_ln_in_parallel_attn == 2)",
        "`num_ln_in_parallel_attn` is 2 without `new_decoder_architecture`: the target has one",
    ),
    Require(
        "mapping.tp_size == 1 or not (bias and parallel_attention)",
        "`bias` and `parallel_attn`: with several tp ranks the target adds a bias several times",
        hint="use `tp_size: 1`",
    ),
)

_CONFIG = (
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count", ("hidden_size", "n_embed")),
    Copy("num_hidden_layers", "count", ("num_hidden_layers", "n_layer")),
    Copy("num_attention_heads", "count", ("num_attention_heads", "n_head")),
    Copy("intermediate_size", "count", ("ffn_hidden_size",), default=Formula("4*hidden_size")),
    Copy("hidden_act", "text", ("activation",), default="gelu", allowed=_GELU),
    Copy("norm_epsilon", "number", ("layer_norm_epsilon",), default=1e-5, allowed=(1e-5,)),
    Copy("max_position_embeddings", "count", default=2048),
    Copy("tie_word_embeddings", "flag", default=True, written=False),
    Rope("rotary_base", None, default_base=10000.0, types={}),
    *_LAYOUT,
    Divides("num_attention_heads", "hidden_size"),
    Divides("num_key_value_heads", "num_attention_heads"),
    Neutral(
        "apply_residual_connection_post_layernorm",
        (None, False),
        "the target adds what was before the norm",
    ),
    Inert(("hidden_dropout", "ffn_dropout"), "how it was trained"),
    Inert(("ff_factor",), "`ffn_hidden_size` is what transformers reads", only=_FALCON),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "transformer.h.{layer}"
_EMBEDDING = "transformer.word_embeddings.weight"
_TWO_NORMS = "new_decoder_architecture and not (num_ln_in_parallel_attn == 1)"

_WEIGHT_MAP = (
    *embedding(_EMBEDDING),
    *norm(f"{_SOURCE}.ln_attn", f"{LAYER}.input_layernorm", bias="True", when=_TWO_NORMS),
    *norm(f"{_SOURCE}.ln_mlp", f"{LAYER}.mlp_layernorm", bias="True", when=_TWO_NORMS),
    *norm(
        f"{_SOURCE}.input_layernorm",
        f"{LAYER}.input_layernorm",
        bias="True",
        when=f"not ({_TWO_NORMS})",
    ),
    # One group per K/V head: with multi-query that is all queries, then the key and the value.
    *fused_qkv(
        f"{_SOURCE}.self_attention.query_key_value", groups="num_key_value_heads", bias="bias"
    ),
    *row_linear(
        f"{_SOURCE}.self_attention.dense",
        f"{LAYER}.attention.dense",
        columns="hidden_size",
        unit="num_attention_heads",
        bias="bias",
    ),
    *norm(
        f"{_SOURCE}.post_attention_layernorm",
        f"{LAYER}.post_layernorm",
        bias="True",
        when="not (new_decoder_architecture or parallel_attention)",
    ),
    *column_linear(f"{_SOURCE}.mlp.dense_h_to_4h", f"{LAYER}.mlp.fc", bias="bias"),
    *row_linear(f"{_SOURCE}.mlp.dense_4h_to_h", f"{LAYER}.mlp.proj", bias="bias"),
    *norm("transformer.ln_f", "transformer.ln_f", bias="True", on="last"),
    *head("lm_head.weight", _EMBEDDING),
    Drop(
        f"{_SOURCE}.self_attention.rotary.inv_freq",
        "a buffer of old checkpoints, worked out from the rotary base",
    ),
    Drop(
        f"{_SOURCE}.self_attention.maybe_rotary.inv_freq",
        "a buffer of old checkpoints, worked out from the rotary base",
    ),
)

FAMILY = Family(
    name="falcon",
    architectures=(*_FALCON, *_REFINED_WEB),
    model_class=FALCON,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
    writes_architecture="FalconForCausalLM",
    optional_prefix="transformer.",
)
