"""Phi-1, Phi-1.5 and Phi-2, as transformers names their tensors.

Read: transformers 4.57 and 5.23 (`configuration_phi.py`, `modeling_phi.py`); TensorRT-LLM 1.x
(`models/phi/config.py`, `models/phi/convert.py`, `models/phi/model.py`).

Differences from TensorRT-LLM's converter, with the reasons:
- `partial_rotary_factor` 0.5 is taken where a config has none, as transformers does.
- A head that the ranks do not divide is padded with its bias; the converter fails on the bias.
- Grouped K/V heads, a norm epsilon other than 1e-5, a rope scaling and norms of queries and keys
  are refused: the converter goes on, but the class ignores them.
"""

from __future__ import annotations

from pipeline.model_classes.phi import PHI
from pipeline.weights.config_rules import Copy, Divides, Formula, Inert, Neutral, Require, Rope
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
from pipeline.weights.rules import Make, Part, Shard

_CONFIG = (
    *SIZES,
    Copy("hidden_act", "text", default="gelu_new", allowed=("gelu", "gelu_new", "relu")),
    Copy("norm_epsilon", "number", ("layer_norm_eps",), default=1e-5, allowed=(1e-5,)),
    Copy("max_position_embeddings", "count", default=2048),
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads")),
    Copy("tie_word_embeddings", "flag", default=False, written=False),
    Rope("rotary_base", None, 10000.0, types={}, fraction="rotary_pct", default_fraction=0.5),
    Require(
        "num_key_value_heads == num_attention_heads",
        "`num_key_value_heads` is not `num_attention_heads`: the target's class has no K/V groups",
    ),
    Divides("num_attention_heads", "hidden_size"),
    Divides("2", "floor(head_size*rotary_pct)"),
    Neutral("model_type", ("phi",), "the type of its class"),
    Neutral("qk_layernorm", (None, False), "queries and keys have no norms in the target's class"),
    Inert(("embd_pdrop", "resid_pdrop"), "how it was trained"),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"
_HEAD_BIAS = Part("lm_head.bias", ("vocab_size",), (Shard(0, "vocab_size", pad=True),))

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm", bias="True"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj", bias="True"),
    *attention_dense(f"{_ATTENTION}.dense", bias="True"),
    *column_linear(f"{_SOURCE}.mlp.fc1", f"{LAYER}.mlp.fc", bias="True"),
    *row_linear(f"{_SOURCE}.mlp.fc2", f"{LAYER}.mlp.proj", bias="True"),
    *norm("model.final_layernorm", "transformer.ln_f", bias="True", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
    Make("lm_head.bias", (_HEAD_BIAS,), on="last"),
)

FAMILY = Family(
    name="phi",
    architectures=("PhiForCausalLM",),
    model_class=PHI,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
