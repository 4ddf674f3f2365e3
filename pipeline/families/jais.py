"""Jais: the first models (13b, 30b) and the Jais family, which spell the scales differently.

Read: the config.json files and tensor names as published (the class exists as Python code of its
own only), TensorRT-LLM 0.17 (`models/gpt/config.py`, `models/gpt/convert.py`,
`models/gpt/model.py`, `layers/mlp.py`, `layers/attention.py`).

Linears are Conv1D, [inputs, outputs]. The MLP is c_proj(c_fc(x) * silu(c_fc2(x))), TensorRT-LLM's
proj(gate(x) * silu(fc(x))). Its width is padded with zeros to a multiple of the ranks. The scale of
the logits is worked into the head, in float32.

Differences from TensorRT-LLM's converter, with the reasons:
- Where it casts nothing and pads nothing it scales the embedding of the model in place: the one
  that is written is scaled too, and the heads of later ranks more than once. Here only the head is
  scaled, once.
- It scales in the target's dtype; here a value is rounded once.
- A head of its own is converted where the model is not tied; the converter takes the embedding.
- Another activation, other positions, stretched alibi slopes and a softmax that is not scaled by
  1 / head_size are refused: the converter takes them as given.
"""

from __future__ import annotations

from dataclasses import replace

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
    Rules,
    column_linear,
    embedding,
    fused_qkv,
    head,
    norm,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import GENERAL_KEYS
from pipeline.weights.layer_rules import attention_dense
from pipeline.weights.rules import Drop, Make, Part, Shard, Times

_CONFIG = (
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count", ("n_embd",)),
    Copy("num_hidden_layers", "count", ("n_layer",)),
    Copy("num_attention_heads", "count", ("n_head",)),
    Copy("mlp_size", "count", ("n_inner",), default=Formula("4*hidden_size"), written=False),
    Computed("intermediate_size", "round_up(mlp_size, mapping.tp_size)"),
    Copy("max_position_embeddings", "count", ("n_positions",)),
    Copy("norm_epsilon", "number", ("layer_norm_epsilon",), default=1e-5),
    Copy("hidden_act", "text", ("activation_function",), allowed=("swiglu",)),
    Copy("position_embedding_type", "text", allowed=("alibi",)),
    Copy("embedding_scale", "number", ("mup_embeddings_scale", "embeddings_scale")),
    Copy("width_scale", "number", default=None, written=False),
    Copy("mup_width_scale", "number", default=None, written=False),
    Copy("mup_output_alpha", "number", default=1.0, written=False),
    Require(
        "(width_scale or mup_width_scale) and not (width_scale and mup_width_scale)",
        "one of `width_scale` and `mup_width_scale` is needed",
    ),
    Computed(
        "logits_scale",
        "width_scale if width_scale else mup_output_alpha*mup_width_scale",
        written=False,
    ),
    Copy("scales_by_size", "flag", ("mup_scale_qk_dot_by_d", "scale_qk_dot_by_d"), written=False),
    Require("scales_by_size", "attention that is not scaled by 1 / head_size"),
    Computed("q_scaling", "sqrt(head_size)"),
    Copy("tie_word_embeddings", "flag", default=True, written=False),
    Constant("gpt_variant", "jais"),
    Divides("num_attention_heads", "hidden_size"),
    Neutral("model_type", ("jais",), "the type of its class"),
    Neutral("alibi_scaling", (None,), "the target's class does not stretch the slopes"),
    Neutral("scale_attn_weights", (None, True), "the target's class always scales"),
    Neutral("scale_attn_by_inverse_layer_idx", (None, False), "all layers are scaled alike"),
    Inert(("auto_map",), "the architecture's own class, known by its name"),
    Inert(("reorder_and_upcast_attn",), "in which precision attention is computed"),
    Inert(("attn_pdrop", "embd_pdrop", "resid_pdrop"), "how it was trained"),
    Inert(
        (
            *("summary_activation", "summary_first_dropout", "summary_proj_to_labels"),
            *("summary_type", "summary_use_proj"),
        ),
        "other tasks than generating text",
    ),
    *GENERAL_KEYS,
)

_SOURCE = "transformer.h.{layer}"
_MLP = Shard(0, "mlp_size", pad=True)


def _column(source: str, target: str) -> Rules:
    """A linear into the MLP, padded."""
    return column_linear(source, target, "mlp_size", bias="True", shard=_MLP, transposed=True)


def _scaled_head() -> Rules:
    """The head with the scale of the logits."""
    rules = head("lm_head.weight", "transformer.wte.weight")
    return tuple(_scaled(rule) if isinstance(rule, Make) else rule for rule in rules)


def _scaled(rule: Make) -> Make:
    parts = tuple(part for part in rule.parts if isinstance(part, Part))
    return replace(rule, parts=tuple(replace(p, change=Times("logits_scale")) for p in parts))


_WEIGHT_MAP = (
    *embedding("transformer.wte.weight"),
    *norm(f"{_SOURCE}.ln_1", f"{LAYER}.input_layernorm", bias="True"),
    *fused_qkv(f"{_SOURCE}.attn.c_attn", bias="True", transposed=True),
    *attention_dense(f"{_SOURCE}.attn.c_proj", bias="True", transposed=True),
    *norm(f"{_SOURCE}.ln_2", f"{LAYER}.post_layernorm", bias="True"),
    *_column(f"{_SOURCE}.mlp.c_fc2", f"{LAYER}.mlp.fc"),
    *_column(f"{_SOURCE}.mlp.c_fc", f"{LAYER}.mlp.gate"),
    Make(
        f"{LAYER}.mlp.proj.weight",
        (
            Part(
                f"{_SOURCE}.mlp.c_proj.weight",
                ("mlp_size", "hidden_size"),
                (Shard(1, "mlp_size", pad=True),),
                transposed=True,
            ),
        ),
    ),
    Make(f"{LAYER}.mlp.proj.bias", (Part(f"{_SOURCE}.mlp.c_proj.bias", ("hidden_size",)),)),
    *norm("transformer.ln_f", "transformer.ln_f", bias="True", on="last"),
    *_scaled_head(),
    Drop("transformer.relative_pe.slopes", "alibi slopes, worked out from the number of heads"),
    Drop(f"{_SOURCE}.attn.bias", "a buffer of old checkpoints: the causal mask"),
    Drop(f"{_SOURCE}.attn.masked_bias", "a buffer of old checkpoints: a value for masked scores"),
)

FAMILY = Family(
    name="jais",
    architectures=("JAISLMHeadModel",),
    model_class=GPT,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
    optional_prefix="transformer.",
)
