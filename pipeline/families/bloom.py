"""BLOOM and BLOOMZ.

Read: transformers 4.57 and 5.23 (`configuration_bloom.py`, `modeling_bloom.py`); TensorRT-LLM 0.17
and 1.x (`examples/bloom/convert_checkpoint.py`, `models/bloom/model.py`).

Differences from TensorRT-LLM's converter:
- It takes the embedding as the head even where the config does not tie them.
- It passes over `layer_norm_epsilon` and `apply_residual_connection_post_layernorm`; the class
  computes with 1e-5 and without, so other models are refused.
- It leaves `max_position_embeddings` out; here it is the `seq_length` of the training.
"""

from __future__ import annotations

from pipeline.model_classes.bloom import BLOOM
from pipeline.weights.config_rules import Copy, Divides, Inert, Neutral
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
from pipeline.weights.general_keys import GENERAL_KEYS

_CONFIG = (
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count", ("hidden_size", "n_embed")),
    Copy("num_hidden_layers", "count", ("n_layer", "num_hidden_layers")),
    Copy("num_attention_heads", "count", ("n_head", "num_attention_heads")),
    Copy("max_position_embeddings", "count", ("seq_length",), default=2048),
    Copy("tie_word_embeddings", "flag", default=True, written=False),
    Divides("num_attention_heads", "hidden_size"),
    Neutral("model_type", ("bloom",), "the type of its class"),
    Neutral("layer_norm_epsilon", (None, 1e-5), "the target's norms have this epsilon"),
    Neutral(
        "apply_residual_connection_post_layernorm",
        (None, False),
        "the target adds what was before the norm",
    ),
    Neutral("n_inner", (None,), "the MLP is four times as wide as the model"),
    Inert(("hidden_dropout",), "how it was trained"),
    Inert(
        (
            *("attention_softmax_in_fp32", "bias_dropout_fusion", "masked_softmax_fusion"),
            *("offset_alibi", "skip_bias_add", "skip_bias_add_qkv", "slow_but_exact"),
        ),
        "how its kernels ran in training",
    ),
    *GENERAL_KEYS,
)

_SOURCE = "transformer.h.{layer}"
_EMBEDDING = "transformer.word_embeddings.weight"

_WEIGHT_MAP = (
    *embedding(_EMBEDDING),
    *norm("transformer.word_embeddings_layernorm", "transformer.ln_embed", bias="True", on="first"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm", bias="True"),
    *fused_qkv(
        f"{_SOURCE}.self_attention.query_key_value", groups="num_attention_heads", bias="True"
    ),
    *row_linear(
        f"{_SOURCE}.self_attention.dense",
        f"{LAYER}.attention.dense",
        columns="hidden_size",
        unit="num_attention_heads",
        bias="True",
    ),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm", bias="True"),
    *column_linear(f"{_SOURCE}.mlp.dense_h_to_4h", f"{LAYER}.mlp.fc", bias="True"),
    *row_linear(f"{_SOURCE}.mlp.dense_4h_to_h", f"{LAYER}.mlp.proj", bias="True"),
    *norm("transformer.ln_f", "transformer.ln_f", bias="True", on="last"),
    *head("lm_head.weight", _EMBEDDING),
)

FAMILY = Family(
    name="bloom",
    architectures=("BloomForCausalLM",),
    model_class=BLOOM,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
    optional_prefix="transformer.",
)
