"""Qwen 1.5 and 2 with experts (and a shared, gated one), Qwen 3 with experts (and norms of heads).

Read: transformers 4.57 and 5.23 (`configuration_qwen2_moe.py`, `modeling_qwen2_moe.py`,
`configuration_qwen3_moe.py`, `modeling_qwen3_moe.py`); TensorRT-LLM 1.x (`models/qwen/config.py`,
`models/qwen/model.py`, `layers/moe.py`, `layers/attention.py`).

Otherwise than TensorRT-LLM's converter: `norm_topk_prob` is kept, as normalization mode 1, for the
converter always writes 0, which leaves the experts of Qwen 3 without their normalization;
`qkv_bias` is kept; an absent `rope_theta` is 10000, as in transformers, not 100000. Layers without
experts, sliding windows and biases of Qwen 3, which the class does not have, are refused, not
passed over. Known difference of the class itself: it norms the queries and keys of Qwen 3 with an
epsilon of 1e-5, whatever `rms_norm_eps` is (1e-6 in published models).
"""

from __future__ import annotations

from pipeline.model_classes.qwen import QWEN
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
from pipeline.weights.layer_rules import attention_dense, head_norms, rotary_buffer, shared_expert
from pipeline.weights.rope import ROPE_TYPES
from pipeline.weights.rules import Make, Part

_QWEN2 = "Qwen2MoeForCausalLM"
_QWEN3 = "Qwen3MoeForCausalLM"
_IS_QWEN2 = "qwen_type == 'qwen2_moe'"
_IS_QWEN3 = "qwen_type == 'qwen3_moe'"
_EVERY_LAYER = "the class has experts in every layer"

_CONFIG = (
    *SIZES,
    Constant("qwen_type", "qwen2_moe", only=(_QWEN2,)),
    Constant("qwen_type", "qwen3_moe", only=(_QWEN3,)),
    Copy("attn_bias", "flag", ("qkv_bias",), default=True, only=(_QWEN2,)),
    Constant("attn_bias", False, only=(_QWEN3,)),
    Neutral("attention_bias", (None, False), "the class has no bias to its output", only=(_QWEN3,)),
    Rope("rotary_base", "rotary_scaling", default_base=10000.0, types=ROPE_TYPES),
    # One linear of up and gate rows, then their product: what the class calls swiglu.
    Constant("hidden_act", "swiglu"),
    Neutral("hidden_act", ("silu", "swish"), "gated experts of TensorRT-LLM compute swiglu"),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-6),
    Copy("max_position_embeddings", "count", default=32768),
    Copy("num_key_value_heads", "count"),
    Copy("head_size", "count", ("head_dim",), default=Formula("hidden_size/num_attention_heads")),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Require(
        f"not ({_IS_QWEN3}) or num_key_value_heads < num_attention_heads"
        " or num_attention_heads == 1",
        "as many K/V heads as query heads, with norms of both: TensorRT-LLM's attention takes "
        "queries, keys and values for interleaved then",
    ),
    Copy("tie_word_embeddings", "flag", default=False),
    Copy("moe.num_experts", "count", ("num_experts", "num_local_experts")),
    Copy("moe.top_k", "count", ("num_experts_per_tok",)),
    Require("moe.top_k <= moe.num_experts", "`num_experts_per_tok` is more than `num_experts`"),
    Copy("norm_topk_prob", "flag", default=False, written=False),
    Computed("moe.normalization_mode", "1 if norm_topk_prob else 0"),
    Copy("moe_intermediate_size", "count"),
    Copy(
        "moe_shared_expert_intermediate_size",
        "count",
        ("shared_expert_intermediate_size",),
        only=(_QWEN2,),
    ),
    Computed(
        "moe.shared_expert_intermediate_size",
        "moe_shared_expert_intermediate_size",
        only=(_QWEN2,),
    ),
    Neutral("qkv_bias", (None, False), "the model has no biases", only=(_QWEN3,)),
    Neutral("use_qk_norm", (None, True), "the model has these norms", only=(_QWEN3,)),
    Neutral("shared_expert_intermediate_size", (None, 0), "it shares none", only=(_QWEN3,)),
    Neutral("decoder_sparse_step", (None, 1), _EVERY_LAYER),
    Neutral("mlp_only_layers", (None, []), _EVERY_LAYER),
    Neutral("use_sliding_window", (None, False), "the class attends to all tokens"),
    Copy("layer_types", "list", default=[], written=False),
    Require(
        "all_are(layer_types, 'full_attention')",
        "`layer_types` has other types than `full_attention`; the class attends to all tokens",
    ),
    Neutral("model_type", ("qwen2_moe",), "the type of its class", only=(_QWEN2,)),
    Neutral("model_type", ("qwen3_moe",), "the type of its class", only=(_QWEN3,)),
    Inert(("sliding_window", "max_window_layers"), "without `use_sliding_window` not read"),
    Inert(("router_aux_loss_coef", "output_router_logits"), "how it was trained"),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"
_EXPERT = f"{_SOURCE}.mlp.experts.{{expert}}"
_SHARED = f"{_SOURCE}.mlp.shared_expert"
_TO_SIZE = ("moe_intermediate_size", "hidden_size")

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj", bias="attn_bias"),
    *head_norms(f"{_ATTENTION}.q_norm", f"{_ATTENTION}.k_norm", when=_IS_QWEN3),
    *attention_dense(f"{_ATTENTION}.o_proj"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    *router(f"{_SOURCE}.mlp.gate"),
    *experts(
        (
            Part(f"{_EXPERT}.up_proj.weight", _TO_SIZE),
            Part(f"{_EXPERT}.gate_proj.weight", _TO_SIZE),
        ),
        Part(f"{_EXPERT}.down_proj.weight", ("hidden_size", "moe_intermediate_size")),
        size="moe_intermediate_size",
    ),
    *shared_expert(_SHARED, "moe_shared_expert_intermediate_size", when=_IS_QWEN2),
    Make(
        f"{LAYER}.mlp.shared_expert_gate.weight",
        (Part(f"{_SOURCE}.mlp.shared_expert_gate.weight", ("1", "hidden_size")),),
        when=_IS_QWEN2,
    ),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
    *rotary_buffer(_ATTENTION),
)

FAMILY = Family(
    name="qwen2moe",
    architectures=(_QWEN2, _QWEN3),
    model_class=QWEN,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
