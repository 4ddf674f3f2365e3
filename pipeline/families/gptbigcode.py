"""GPT-BigCode: StarCoder, StarCoderBase, SantaCoder in this format, tiny_starcoder and others.

Read: transformers 4.57 and 5.23 (`configuration_gpt_bigcode.py`, `modeling_gpt_bigcode.py`);
TensorRT-LLM 0.17 (`models/gpt/config.py`, `models/gpt/convert.py`, `models/gpt/model.py`).

`c_attn` has all query heads, then the one key and the one value head; without `multi_query`, one
such group per head.

Differences from TensorRT-LLM's converter, with the reasons:
- It takes every model for multi-query, and cuts up one that is not at wrong places; here both are
  converted. It guesses the variant from the path; here it is always `starcoder`.
- A head of its own is converted where the model is not tied; the converter takes the embedding.
- Attention that is not scaled is refused: the converter ignores the key.
"""

from __future__ import annotations

from pipeline.model_classes.gpt import GPT
from pipeline.weights.config_rules import (
    Computed,
    Constant,
    Copy,
    Divides,
    Formula,
    Inert,
    Neutral,
    Require,
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
from pipeline.weights.general_keys import GENERAL_KEYS
from pipeline.weights.layer_rules import attention_dense, position_embedding
from pipeline.weights.rules import Drop

_CONFIG = (
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count", ("n_embd",)),
    Copy("num_hidden_layers", "count", ("n_layer",)),
    Copy("num_attention_heads", "count", ("n_head",)),
    Copy("intermediate_size", "count", ("n_inner",), default=Formula("4*hidden_size")),
    Copy("max_position_embeddings", "count", ("n_positions",), default=1024),
    Copy("norm_epsilon", "number", ("layer_norm_epsilon",), default=1e-5),
    Copy(
        "hidden_act",
        "text",
        ("activation_function",),
        default="gelu_pytorch_tanh",
        allowed=("gelu_pytorch_tanh", "gelu_new", "gelu", "gelu_fast", "relu", "silu"),
        aliases={"swish": "silu"},
    ),
    Copy("multi_query", "flag", default=True, written=False),
    Copy("stated_kv_heads", "count", ("num_key_value_heads",), default=None, written=False),
    Computed("num_key_value_heads", "1 if multi_query else num_attention_heads"),
    Require(
        "(not stated_kv_heads) or stated_kv_heads == num_key_value_heads",
        "`num_key_value_heads` and `multi_query` disagree",
    ),
    Copy("tie_word_embeddings", "flag", default=True, written=False),
    Constant("gpt_variant", "starcoder"),
    Divides("num_attention_heads", "hidden_size"),
    Neutral("model_type", ("gpt_bigcode",), "the type of its class"),
    Neutral("scale_attn_weights", (None, True), "the target's class always scales"),
    Inert(
        ("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "inference_runner"),
        "how attention is computed",
    ),
    Inert(
        ("max_batch_size", "pad_key_length", "pre_allocate_kv_cache", "validate_runner_input"),
        "how its own code runs",
    ),
    Inert(
        (
            *("summary_activation", "summary_first_dropout", "summary_proj_to_labels"),
            *("summary_type", "summary_use_proj"),
        ),
        "other tasks than generating text",
    ),
    Inert(("attn_pdrop", "embd_pdrop", "resid_pdrop"), "how it was trained"),
    *GENERAL_KEYS,
)

_SOURCE = "transformer.h.{layer}"

_WEIGHT_MAP = (
    *embedding("transformer.wte.weight"),
    *position_embedding("transformer.wpe.weight"),
    *norm(f"{_SOURCE}.ln_1", f"{LAYER}.input_layernorm", bias="True"),
    *fused_qkv(f"{_SOURCE}.attn.c_attn", groups="num_key_value_heads", bias="True"),
    *attention_dense(f"{_SOURCE}.attn.c_proj", bias="True"),
    *norm(f"{_SOURCE}.ln_2", f"{LAYER}.post_layernorm", bias="True"),
    *column_linear(f"{_SOURCE}.mlp.c_fc", f"{LAYER}.mlp.fc", bias="True"),
    *row_linear(f"{_SOURCE}.mlp.c_proj", f"{LAYER}.mlp.proj", bias="True"),
    *norm("transformer.ln_f", "transformer.ln_f", bias="True", on="last"),
    *head("lm_head.weight", "transformer.wte.weight"),
    Drop("transformer.bias", "a buffer of old checkpoints: the causal mask"),
    Drop(f"{_SOURCE}.attn.bias", "a buffer of old checkpoints: the causal mask"),
)

FAMILY = Family(
    name="gptbigcode",
    architectures=("GPTBigCodeForCausalLM",),
    model_class=GPT,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
    optional_prefix="transformer.",
)
