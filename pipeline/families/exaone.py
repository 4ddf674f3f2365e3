"""EXAONE 3.0, 3.5 and Deep (ExaoneForCausalLM; EXAONE 4 is another class).

Read: the config.json files as published; vLLM's copy of `configuration_exaone.py`; TensorRT-LLM 1.x
(`models/llama/config.py`, `models/llama/model.py`, `models/llama/convert.py`). The code that is
published with the checkpoints has defaults that differ from release to release, so most keys must
be there, as they are in all published files.

Differences from TensorRT-LLM's converter, with the reasons:
- It fails for a tied model with several pp ranks: only where a rank has the embedding too does it
  find the head. Here the head is made from the embedding.
- It takes any `head_dim`; the published code works with `hidden_size/num_attention_heads` only, so
  another one is refused here.
"""

from __future__ import annotations

from pipeline.model_classes.llama import LLAMA
from pipeline.weights.config_rules import Copy, Divides, Formula, Inert, Neutral, Require, Rope
from pipeline.weights.decoder_rules import (
    LAYER,
    embedding,
    head,
    norm,
    qkv,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import REMOTE_CODE_KEYS
from pipeline.weights.layer_rules import attention_dense, gated_mlp
from pipeline.weights.rope import ROPE_TYPES
from pipeline.weights.rules import Drop

_CONFIG = (
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count"),
    Copy("num_hidden_layers", "count", ("num_layers", "num_hidden_layers")),
    Copy("num_attention_heads", "count"),
    Copy("intermediate_size", "count", default=Formula("4*hidden_size")),
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads")),
    Copy("head_size", "count", ("head_dim",), default=Formula("hidden_size/num_attention_heads")),
    Require(
        "head_size*num_attention_heads == hidden_size",
        "`head_dim` is not `hidden_size` divided by `num_attention_heads`",
    ),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Copy(
        "hidden_act",
        "text",
        ("activation_function",),
        allowed=("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"),
        aliases={"swish": "silu"},
    ),
    Copy("norm_epsilon", "number", ("layer_norm_epsilon",)),
    Copy("max_position_embeddings", "count"),
    Rope("rotary_base", "rotary_scaling", default_base=None, types=ROPE_TYPES),
    Copy("tie_word_embeddings", "flag"),
    Neutral("model_type", ("exaone",), "the type of its class"),
    Neutral("partial_rotary_factor", (None, 1, 1.0), "all of a head is rotated"),
    Inert(("embed_dropout",), "how it was trained"),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "transformer.h.{layer}"
_ATTENTION = f"{_SOURCE}.attn.attention"

_WEIGHT_MAP = (
    *embedding("transformer.wte.weight"),
    *norm(f"{_SOURCE}.ln_1", f"{LAYER}.input_layernorm"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj"),
    *attention_dense(f"{_ATTENTION}.out_proj"),
    *norm(f"{_SOURCE}.ln_2", f"{LAYER}.post_layernorm"),
    # The MLP computes c_proj(act(c_fc_0(x)) * c_fc_1(x)).
    *gated_mlp(f"{_SOURCE}.mlp", "c_fc_0", "c_fc_1", "c_proj"),
    *norm("transformer.ln_f", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "transformer.wte.weight"),
    Drop(
        f"{_ATTENTION}.rotary.inv_freq",
        "a buffer, worked out from the rotary base",
    ),
)

FAMILY = Family(
    name="exaone",
    architectures=("ExaoneForCausalLM",),
    model_class=LLAMA,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
