"""Nemotron-3, Nemotron-4 and Minitron (NemotronForCausalLM).

Read: transformers 4.57 and 5.23 (`configuration_nemotron.py`, `modeling_nemotron.py`);
TensorRT-LLM 0.17 (`models/gpt/config.py`, `models/gpt/convert.py`, `models/gpt/model.py`).

A norm's weight is stored without the 1 that the model adds (LayerNorm1P); it is added here.

Differences from TensorRT-LLM's converter, with the reasons:
- It adds the 1 in place to a model that it loads once, so that the second tp rank has it twice,
  the third three times.
- A `head_dim` of its own is written; the converter takes hidden_size / num_attention_heads, though
  the class can do both.
- A rope scaling is written, which it forgets; transformers computes it.
- Biases of linears are refused: the converter would give the class none.
"""

from __future__ import annotations

from pipeline.model_classes.gpt import GPT
from pipeline.weights.config_rules import (
    Constant,
    Copy,
    Divides,
    Formula,
    Neutral,
    Rope,
)
from pipeline.weights.decoder_rules import (
    LAYER,
    Rules,
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
from pipeline.weights.rules import Place, Plus

_CONFIG = (
    *SIZES,
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads")),
    Copy("head_size", "count", ("head_dim",), default=Formula("hidden_size/num_attention_heads")),
    Copy("max_position_embeddings", "count", default=4096),
    Copy("norm_epsilon", "number", ("norm_eps",), default=1e-5),
    Copy(
        "hidden_act",
        "text",
        default="squared-relu",
        allowed=("squared-relu",),
        aliases={"relu2": "squared-relu"},
    ),
    Copy("tie_word_embeddings", "flag", default=False, written=False),
    Rope(
        "rotary_base",
        "rotary_scaling",
        default_base=10000.0,
        types=ROPE_TYPES,
        fraction="rotary_pct",
        default_fraction=0.5,
        fraction_keys=("partial_rotary_factor", "rope_percent"),
    ),
    Constant("gpt_variant", "nemotron"),
    Constant("bias", False),
    Constant("position_embedding_type", "rope_gpt_neox"),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "floor(head_size*rotary_pct)"),
    Neutral("model_type", ("nemotron",), "the type of its class"),
    Neutral("attention_bias", (None, False), "linears have no biases"),
    Neutral("mlp_bias", (None, False), "linears have no biases"),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"


def _norm(source: str, target: str, on: Place | None = None) -> Rules:
    """A norm whose stored weight is one too small."""
    return norm(source, target, bias="True", on=on, change=Plus(1.0))


_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *_norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj"),
    *attention_dense(f"{_ATTENTION}.o_proj"),
    *_norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    *column_linear(f"{_SOURCE}.mlp.up_proj", f"{LAYER}.mlp.fc"),
    *row_linear(f"{_SOURCE}.mlp.down_proj", f"{LAYER}.mlp.proj"),
    *_norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
)

FAMILY = Family(
    name="nemotron",
    architectures=("NemotronForCausalLM",),
    model_class=GPT,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
