"""Mixtral 8x7B and 8x22B, and their finetunes.

Read: transformers 4.57 and 5.23 (`configuration_mixtral.py`, `modeling_mixtral.py`), the
config.json files as published; TensorRT-LLM 1.x (`models/llama/config.py`, `models/llama/model.py`,
`models/llama/convert.py`, `layers/moe.py`).

Differences from TensorRT-LLM's converter, with the reasons:
- It writes `swiglu` whatever `hidden_act` says, so any other activation is refused here.
- It drops `sliding_window`; here `attention_windows` keeps it, a key of ours.
- One expert is refused: `MoeConfig.has_moe` takes it for a dense MLP.
"""

from __future__ import annotations

from pipeline.model_classes.llama import LLAMA
from pipeline.weights.config_rules import (
    Constant,
    Copy,
    Divides,
    Formula,
    Inert,
    Neutral,
    Require,
    Rope,
    Window,
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
from pipeline.weights.layer_rules import attention_dense, rotary_buffer
from pipeline.weights.rope import ROPE_TYPES
from pipeline.weights.rules import Part

_CONFIG = (
    *SIZES,
    Neutral("hidden_act", ("silu", "swish"), "the class computes swiglu"),
    Constant("hidden_act", "swiglu"),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-5),
    Copy("max_position_embeddings", "count", default=131072),
    Copy("num_key_value_heads", "count"),
    Copy("head_size", "count", ("head_dim",), default=Formula("hidden_size/num_attention_heads")),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Rope("rotary_base", "rotary_scaling", default_base=1000000.0, types=ROPE_TYPES),
    Copy("tie_word_embeddings", "flag", default=False),
    Copy("moe.num_experts", "count", ("num_local_experts",), default=8),
    Copy("moe.top_k", "count", ("num_experts_per_tok",), default=2),
    # RENORMALIZE of MoeConfig: softmax over all experts, then the best ones add up to 1.
    Constant("moe.normalization_mode", 1),
    Require("moe.num_experts > 1", "TensorRT-LLM takes one expert for a dense MLP"),
    Require("moe.top_k <= moe.num_experts", "`num_experts_per_tok` is over `num_local_experts`"),
    Window("sliding_window", default=None),
    Neutral("model_type", ("mixtral",), "the type of its class"),
    Neutral("attention_bias", (None, False), "no variant has biases"),
    Neutral("mlp_bias", (None, False), "no variant has biases"),
    Neutral("partial_rotary_factor", (None, 1, 1.0), "all of a head is rotated"),
    Inert(("output_router_logits",), "how transformers runs it"),
    Inert(("router_aux_loss_coef", "router_jitter_noise"), "how it was trained"),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"
_EXPERT = f"{_SOURCE}.block_sparse_moe.experts.{{expert}}"

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj"),
    *attention_dense(f"{_ATTENTION}.o_proj"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    *router(f"{_SOURCE}.block_sparse_moe.gate"),
    # An expert computes w2(silu(w1(x)) * w3(x)): w3 is the up projection, w1 the gate.
    *experts(
        fc=(
            Part(f"{_EXPERT}.w3.weight", ("intermediate_size", "hidden_size")),
            Part(f"{_EXPERT}.w1.weight", ("intermediate_size", "hidden_size")),
        ),
        proj=Part(f"{_EXPERT}.w2.weight", ("hidden_size", "intermediate_size")),
    ),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
    *rotary_buffer(_ATTENTION),
)

FAMILY = Family(
    name="mixtral",
    architectures=("MixtralForCausalLM",),
    model_class=LLAMA,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
