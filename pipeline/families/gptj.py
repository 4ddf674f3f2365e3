"""GPT-J-6B and others of its class.

Read: transformers 4.57 and 5.23 (`configuration_gptj.py`, `modeling_gptj.py`); TensorRT-LLM 0.17
(`models/gptj/config.py`, `models/gptj/convert.py`, `models/gptj/model.py`).

The class adds the bias of `mlp.proj` on every tp rank before it sums their results, so that the
first rank has it and the others zeros.

Differences from TensorRT-LLM's converter: a head that the ranks do not divide is padded with its
bias, where the converter cuts both unevenly. Another epsilon or MLP width is refused: the class
ignores them.
"""

from __future__ import annotations

from pipeline.model_classes.gptj import GPTJ
from pipeline.weights.config_rules import Constant, Copy, Divides, Formula, Inert, Neutral, Require
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
from pipeline.weights.general_keys import GENERAL_KEYS
from pipeline.weights.layer_rules import attention_dense
from pipeline.weights.rules import Drop, Make, Part, Shard

_GELUS = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh")

_CONFIG = (
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count", ("n_embd",)),
    Copy("num_hidden_layers", "count", ("n_layer",)),
    Copy("num_attention_heads", "count", ("n_head",)),
    Copy("intermediate_size", "count", ("n_inner",), default=Formula("4*hidden_size")),
    Copy("max_position_embeddings", "count", ("n_positions",), default=2048),
    Copy("norm_epsilon", "number", ("layer_norm_epsilon",), default=1e-5, allowed=(1e-5,)),
    Constant("hidden_act", "gelu"),
    Neutral("activation_function", _GELUS, "TensorRT-LLM's `gelu` is the tanh form"),
    Copy("rotary_dim", "count", default=64),
    Copy("tie_word_embeddings", "flag", default=False, written=False),
    Require(
        "intermediate_size == 4*hidden_size",
        "`n_inner` is not 4 * n_embd, which the target's class takes for granted",
    ),
    Divides("num_attention_heads", "hidden_size"),
    Divides("2", "rotary_dim"),
    Require("rotary_dim <= head_size", "`rotary_dim` is larger than a head"),
    Neutral("model_type", ("gptj",), "the type of its class"),
    Neutral("rotary", (None, True), "positions are rotated"),
    Neutral("scale_attn_weights", (None, True), "the target's class always scales"),
    Inert(
        (
            *("summary_activation", "summary_first_dropout", "summary_proj_to_labels"),
            *("summary_type", "summary_use_proj"),
        ),
        "other tasks than generating text",
    ),
    Inert(
        ("attn_pdrop", "embd_pdrop", "resid_pdrop", "gradient_checkpointing"),
        "how it was trained",
    ),
    *GENERAL_KEYS,
)

_SOURCE = "transformer.h.{layer}"
_ATTENTION = f"{_SOURCE}.attn"
# One piece, padded with zeros to one per rank.
_ON_FIRST_RANK = Shard(0, "1", pad=True)

_WEIGHT_MAP = (
    *embedding("transformer.wte.weight"),
    *norm(f"{_SOURCE}.ln_1", f"{LAYER}.input_layernorm", bias="True"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj"),
    *attention_dense(f"{_ATTENTION}.out_proj"),
    *column_linear(f"{_SOURCE}.mlp.fc_in", f"{LAYER}.mlp.fc", bias="True"),
    *row_linear(f"{_SOURCE}.mlp.fc_out", f"{LAYER}.mlp.proj"),
    Make(
        f"{LAYER}.mlp.proj.bias",
        (Part(f"{_SOURCE}.mlp.fc_out.bias", ("hidden_size",), (_ON_FIRST_RANK,)),),
    ),
    *norm("transformer.ln_f", "transformer.ln_f", bias="True", on="last"),
    *head("lm_head.weight", "transformer.wte.weight"),
    Make(
        "lm_head.bias",
        (Part("lm_head.bias", ("vocab_size",), (Shard(0, "vocab_size", pad=True),)),),
        on="last",
    ),
    Drop(f"{_ATTENTION}.bias", "a buffer of old checkpoints: the causal mask"),
    Drop(f"{_ATTENTION}.masked_bias", "a buffer of old checkpoints: a value for masked scores"),
    Drop(f"{_ATTENTION}.embed_positions", "a buffer of old checkpoints: a table of angles"),
)

FAMILY = Family(
    name="gptj",
    architectures=("GPTJForCausalLM",),
    model_class=GPTJ,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
