"""StarCoder2, with 3, 7 and 15 billion parameters.

Read: transformers 4.57 and 5.23 (`configuration_starcoder2.py`, `modeling_starcoder2.py`);
TensorRT-LLM 0.17 (`models/gpt/config.py`, `models/gpt/convert.py`, `models/gpt/model.py`).

Differences from TensorRT-LLM's converter: a rope scaling is written, which it forgets though the
class computes it. It writes `gelu` for every activation, which is what the class computes for
`gelu_pytorch_tanh`; other activations are refused.
"""

from __future__ import annotations

from pipeline.model_classes.gpt import GPT
from pipeline.weights.config_rules import Constant, Copy, Divides, Inert, Neutral, Rope, Window
from pipeline.weights.decoder_rules import (
    LAYER,
    column_linear,
    embedding,
    head,
    norm,
    qkv,
    row_linear,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import GENERAL_KEYS, SIZES
from pipeline.weights.layer_rules import attention_dense
from pipeline.weights.rope import ROPE_TYPES

_GELUS = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")

_CONFIG = (
    *SIZES,
    Copy("num_key_value_heads", "count", default=2),
    Copy("max_position_embeddings", "count", default=4096),
    Copy("norm_epsilon", "number", default=1e-5),
    Constant("hidden_act", "gelu"),
    Neutral("hidden_act", _GELUS, "TensorRT-LLM's `gelu` is the tanh form"),
    Copy("bias", "flag", ("use_bias",), default=True),
    Copy("tie_word_embeddings", "flag", default=True, written=False),
    Rope("rotary_base", "rotary_scaling", default_base=10000.0, types=ROPE_TYPES),
    Window("sliding_window", default=None),
    Constant("gpt_variant", "starcoder2"),
    Constant("position_embedding_type", "rope_gpt_neox"),
    Divides("num_attention_heads", "hidden_size"),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Neutral("model_type", ("starcoder2",), "the type of its class"),
    Neutral("mlp_type", (None, "default"), "the MLP has no gate"),
    Neutral("norm_type", (None, "layer_norm"), "norms subtract the mean"),
    Inert(
        ("activation_function", "layer_norm_epsilon", "scale_attn_weights"),
        "keys of GPT-BigCode, which the class does not read",
    ),
    Inert(
        (
            *("residual_dropout", "embedding_dropout", "activation_dropout"),
            *("resid_pdrop", "embd_pdrop", "attention_softmax_in_fp32"),
            "scale_attention_softmax_in_fp32",
        ),
        "how it was trained, and in which precision",
    ),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm", bias="True"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj", bias="bias"),
    *attention_dense(f"{_ATTENTION}.o_proj", bias="bias"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm", bias="True"),
    *column_linear(f"{_SOURCE}.mlp.c_fc", f"{LAYER}.mlp.fc", bias="bias"),
    *row_linear(f"{_SOURCE}.mlp.c_proj", f"{LAYER}.mlp.proj", bias="bias"),
    *norm("model.norm", "transformer.ln_f", bias="True", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
)

FAMILY = Family(
    name="starcoder2",
    architectures=("Starcoder2ForCausalLM",),
    model_class=GPT,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
