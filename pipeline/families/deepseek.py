"""DeepSeek-MoE (the first DeepSeek with experts).

Read: the Python code that its checkpoints are published with (`configuration_deepseek.py`,
`modeling_deepseek.py`); TensorRT-LLM 0.17 to 1.x (`models/deepseek_v1/config.py`,
`models/deepseek_v1/convert.py`, `models/deepseek_v1/model.py`, `layers/moe.py`).

Unlike TensorRT-LLM's converter: `norm_topk_prob` is read (0.17 always renormalizes the weights of a
token's experts, 1.x never does); grouped-query attention is converted as such (there it is cut up
as if K and V had all heads); models that its class would compute in another way are refused:
biases, other dense layers than the first alone, experts in every other layer, other activations
and scores.
"""

from __future__ import annotations

from pipeline.model_classes.deepseek import DEEPSEEK
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
    experts,
    head,
    norm,
    qkv,
    router,
    row_linear,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import REMOTE_CODE_KEYS, SIZES
from pipeline.weights.layer_rules import gated_mlp, rotary_buffer, shared_expert
from pipeline.weights.rope import ROPE_TYPES
from pipeline.weights.rules import Make, Part

_CONFIG = (
    *SIZES,
    Copy("moe_intermediate_size", "count"),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-6),
    Copy("max_position_embeddings", "count", default=2048),
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads")),
    Constant("hidden_act", "swiglu"),
    Neutral("hidden_act", ("silu",), "experts compute swiglu"),
    Rope(
        "rotary_base",
        "rotary_scaling",
        default_base=10000.0,
        types={kind: ROPE_TYPES[kind] for kind in ("linear", "dynamic")},
    ),
    Copy("moe.num_experts", "count", ("n_routed_experts",)),
    Copy("moe.top_k", "count", ("num_experts_per_tok",)),
    Copy("n_shared_experts", "count", written=False),
    Copy("norm_topk_prob", "flag", default=False, written=False),
    Copy("first_k_dense_replace", "natural", default=0, written=False),
    Copy("tie_word_embeddings", "flag", default=False, written=False),
    Computed("moe.shared_expert_intermediate_size", "n_shared_experts*moe_intermediate_size"),
    Computed("moe.normalization_mode", "1 if norm_topk_prob and moe.top_k > 1 else 0"),
    Divides("num_attention_heads", "hidden_size"),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Require(
        "first_k_dense_replace == 1",
        "`first_k_dense_replace` is not 1: TensorRT-LLM's class makes the first layer dense, and "
        "no other",
    ),
    Require("moe.num_experts > 1", "`n_routed_experts` is 1: TensorRT-LLM makes no router for it"),
    Require("moe.top_k <= moe.num_experts", "`num_experts_per_tok` is above `n_routed_experts`"),
    Neutral("moe_layer_freq", (1,), "every layer after the first has experts"),
    Neutral("scoring_func", ("softmax",), "the router computes softmax"),
    Neutral("attention_bias", (False,), "the class's attention has no biases"),
    Neutral("model_type", ("deepseek",), "the type of its class"),
    Inert(("aux_loss_alpha", "seq_aux"), "how it was trained"),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"
_EXPERT = f"{_SOURCE}.mlp.experts.{{expert}}"
_SHARED = f"{_SOURCE}.mlp.shared_experts"
_DENSE = "layer == 0"
_EXPERTS = "layer > 0"
_UP = ("moe_intermediate_size", "hidden_size")
_SHARED_SIZE = "moe.shared_expert_intermediate_size"

_WEIGHT_MAP = (
    Make(
        "transformer.vocab_embedding.weight",
        (Part("model.embed_tokens.weight", ("vocab_size", "hidden_size")),),
        on="first",
    ),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj"),
    *row_linear(
        f"{_ATTENTION}.o_proj",
        f"{LAYER}.attention.dense",
        columns="hidden_size",
        unit="num_attention_heads",
    ),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    *gated_mlp(f"{_SOURCE}.mlp", when=_DENSE),
    *router(f"{_SOURCE}.mlp.gate", when=_EXPERTS),
    *experts(
        (Part(f"{_EXPERT}.up_proj.weight", _UP), Part(f"{_EXPERT}.gate_proj.weight", _UP)),
        Part(f"{_EXPERT}.down_proj.weight", ("hidden_size", "moe_intermediate_size")),
        size="moe_intermediate_size",
        when=_EXPERTS,
    ),
    *shared_expert(_SHARED, _SHARED_SIZE, when=_EXPERTS),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
    *rotary_buffer(_ATTENTION),
)

FAMILY = Family(
    name="deepseek",
    architectures=("DeepseekForCausalLM",),
    model_class=DEEPSEEK,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
