"""Granite 3.x with experts (1b-a400m, 3b-a800m).

Read: transformers 4.57 and 5.23 (`configuration_granitemoe.py`, `modeling_granitemoe.py`), the
config.json files as published; TensorRT-LLM 1.x (`models/llama/config.py`, `models/llama/model.py`,
`models/modeling_utils.py`, `layers/attention.py`, `layers/moe.py`).

The multipliers are those of `granite`. TensorRT-LLM's class computes the model and its config is
translated, but its converter looks for Mixtral's names of experts and cannot convert it. Here the
stacked experts are cut: `input_linear` holds the gate of each first, then its up projection. The
router takes a softmax over the best experts, which equals RENORMALIZE. Any other activation than
`silu` is refused, and one expert, which `MoeConfig.has_moe` takes for a dense MLP.

With the build option `reduce_fusion` the class leaves out `residual_multiplier`.
"""

from __future__ import annotations

from pipeline.model_classes.llama import LLAMA
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
    embedding,
    experts,
    head,
    norm,
    qkv,
    router,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import GENERAL_KEYS, SIZES
from pipeline.weights.layer_rules import attention_dense
from pipeline.weights.rope import ROPE_TYPES
from pipeline.weights.rules import Part, Pick

_CONFIG = (
    *SIZES,
    Neutral("hidden_act", ("silu", "swish"), "the class computes swiglu"),
    Constant("hidden_act", "swiglu"),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-6),
    Copy("max_position_embeddings", "count", default=2048),
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads")),
    Copy("head_size", "count", ("head_dim",), default=Formula("hidden_size/num_attention_heads")),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Rope("rotary_base", "rotary_scaling", default_base=10000.0, types=ROPE_TYPES),
    Copy("attn_bias", "flag", ("attention_bias",), default=False),
    Copy("tie_word_embeddings", "flag", default=False),
    Copy("embedding_multiplier", "number", default=1.0),
    Copy("residual_multiplier", "number", default=1.0),
    Copy("score_multiplier", "number", ("attention_multiplier",), default=1.0, written=False),
    Computed("attention_multiplier", "score_multiplier*sqrt(head_size)"),
    Copy("logits_scaling", "number", default=1.0, written=False),
    Computed("output_multiplier_scale", "quotient(1, logits_scaling)"),
    Copy("moe.num_experts", "count", ("num_local_experts",), default=8),
    Copy("moe.top_k", "count", ("num_experts_per_tok",), default=2),
    Constant("moe.normalization_mode", 1),
    Require("moe.num_experts > 1", "TensorRT-LLM takes one expert for a dense MLP"),
    Require("moe.top_k <= moe.num_experts", "`num_experts_per_tok` is over `num_local_experts`"),
    Neutral("model_type", ("granitemoe",), "the type of its class"),
    Neutral("mlp_bias", (None, False), "no variant has biases in its experts"),
    Neutral("partial_rotary_factor", (None, 1, 1.0), "all of a head is rotated"),
    Neutral("position_embedding_type", (None, "rope"), "positions are rotary"),
    Inert(("output_router_logits",), "how transformers runs it"),
    Inert(("router_aux_loss_coef",), "how it was trained"),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"
_EXPERTS = f"{_SOURCE}.block_sparse_moe"
_ROWS = "2*intermediate_size"


def _half(start: str, stop: str) -> Part:
    """Half of the fused gate and up projection of every expert."""
    return Part(
        f"{_EXPERTS}.input_linear.weight",
        ("moe.num_experts", _ROWS, "hidden_size"),
        pick=Pick(0, "1", start, stop),
        stacked=True,
    )


_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj", bias="attn_bias"),
    *attention_dense(f"{_ATTENTION}.o_proj", bias="attn_bias"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    *router(f"{_EXPERTS}.router.layer"),
    *experts(
        fc=(_half("intermediate_size", _ROWS), _half("0", "intermediate_size")),
        proj=Part(
            f"{_EXPERTS}.output_linear.weight",
            ("moe.num_experts", "hidden_size", "intermediate_size"),
            stacked=True,
        ),
    ),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
)

FAMILY = Family(
    name="granitemoe",
    architectures=("GraniteMoeForCausalLM",),
    model_class=LLAMA,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
