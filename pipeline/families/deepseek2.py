"""DeepSeek-V2, V2.5, Coder-V2 and their Lite versions.

Read: the Python code that its checkpoints are published with, and transformers 4.57 and 5.23
(`configuration_deepseek_v2.py`, `modeling_deepseek_v2.py`); TensorRT-LLM 0.17 to 1.x
(`models/deepseek_v2/config.py`, `models/deepseek_v2/convert.py`, `models/deepseek_v2/model.py`,
`layers/attention.py`, `layers/moe.py`).

Stored 1.x sources disagree: the converter and the forward pass of attention name `fused_q_proj`,
the attention's parameters and its plugin `k_b_proj_trans`; 1.2.1 itself was not seen. Both are
written: the loader takes what it requires and only warns of the other. `k_b_proj_trans` holds, per
head, the transpose of the keys' rows of `kv_b_proj`; `fused_q_proj`, per head, their product with
the queries without position, then the queries with position. Here each value of the product is
rounded once, to the target's dtype; TensorRT-LLM's converter sums in the checkpoint's dtype, so
that its last bits differ, also from machine to machine. It fails with several pp ranks, for it
takes the first layer of each for the dense one.

Refused beyond what TensorRT-LLM's converter refuses: `norm_topk_prob`, which the published code
and transformers do not understand alike; values of another width than `qk_nope_head_dim`, for which
the class has no room; no rope scaling, which the class cannot build; biases, other dense layers
than the first alone, experts in every other layer, other activations.
"""

from __future__ import annotations

from pipeline.model_classes.deepseek2 import DEEPSEEK2
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
    RopeType,
)
from pipeline.weights.decoder_rules import (
    LAYER,
    QUERIES,
    experts,
    head,
    norm,
    router,
    row_linear,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import REMOTE_CODE_KEYS, SIZES
from pipeline.weights.layer_rules import gated_mlp, rotary_buffer, shared_expert
from pipeline.weights.rules import Make, Part, Pick, Product

_YARN = RopeType(
    (
        *("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"),
        *("mscale", "mscale_all_dim"),
    )
)

_CONFIG = (
    *SIZES,
    Copy("moe_inter_size", "count", ("moe_intermediate_size",)),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-6),
    Copy("max_position_embeddings", "count", default=2048),
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads")),
    Copy("kv_lora_rank", "count"),
    Copy("q_lora_rank", "count", default=None),
    Copy("qk_nope_head_dim", "count"),
    Copy("qk_rope_head_dim", "count", ("qk_rope_head_dim", "head_dim")),
    Copy("v_head_dim", "count"),
    Copy(
        "qk_head_dim",
        "count",
        default=Formula("qk_nope_head_dim + qk_rope_head_dim"),
        written=False,
    ),
    Constant("hidden_act", "swiglu"),
    Neutral("hidden_act", ("silu",), "experts compute swiglu"),
    Rope("rotary_base", "rotary_scaling", default_base=10000.0, types={"yarn": _YARN}),
    Copy("moe.num_experts", "count", ("n_routed_experts",)),
    Copy("moe.top_k", "count", ("num_experts_per_tok",)),
    Copy("n_shared_experts", "count", written=False),
    Copy("topk_method", "text", default="greedy", allowed=("greedy", "group_limited_greedy")),
    Copy("moe.device_limited_n_group", "natural", ("n_group",), default=0),
    Copy("moe.device_limited_topk_group", "natural", ("topk_group",), default=0),
    Copy(
        "moe.device_limited_routed_scaling_factor",
        "number",
        ("routed_scaling_factor",),
        default=1.0,
    ),
    Copy("first_k_dense_replace", "natural", default=0),
    Copy("tie_word_embeddings", "flag", default=False, written=False),
    Computed("moe.shared_expert_intermediate_size", "n_shared_experts*moe_inter_size"),
    Computed("moe.normalization_mode", "0 if topk_method == 'greedy' else 3"),
    Divides("2", "qk_rope_head_dim"),
    Require(
        "num_key_value_heads == num_attention_heads",
        "`num_key_value_heads` is not `num_attention_heads`: K and V are made for every head",
    ),
    Require(
        "qk_head_dim == qk_nope_head_dim + qk_rope_head_dim",
        "`qk_head_dim` is not the sum of `qk_nope_head_dim` and `qk_rope_head_dim`",
    ),
    Require(
        "v_head_dim == qk_nope_head_dim",
        "`v_head_dim` is not `qk_nope_head_dim`: TensorRT-LLM's class has no room for others",
    ),
    Require(
        "rotary_scaling != None",
        "there is no rope scaling, without which TensorRT-LLM's class cannot be built",
    ),
    Require(
        "first_k_dense_replace == 1",
        "`first_k_dense_replace` is not 1: TensorRT-LLM's class makes the first layer dense, and "
        "no other",
    ),
    Require(
        "topk_method != 'greedy' or moe.device_limited_routed_scaling_factor == 1",
        "`routed_scaling_factor` is not 1, which TensorRT-LLM cannot express with `topk_method` "
        "`greedy`",
    ),
    Require(
        "topk_method == 'greedy' or (moe.device_limited_n_group > 0 "
        "and moe.device_limited_topk_group > 0 "
        "and moe.device_limited_topk_group <= moe.device_limited_n_group)",
        "`topk_method` `group_limited_greedy` needs `topk_group` of 1 or more, up to `n_group`",
    ),
    Require(
        "topk_method == 'greedy' or moe.num_experts % moe.device_limited_n_group == 0",
        "`n_routed_experts` is not a multiple of `n_group`",
    ),
    Require("moe.num_experts > 1", "`n_routed_experts` is 1: TensorRT-LLM makes no router for it"),
    Require("moe.top_k <= moe.num_experts", "`num_experts_per_tok` is above `n_routed_experts`"),
    Neutral(
        "norm_topk_prob",
        (False,),
        "the published code divides the weights of a token's experts by their sum, transformers "
        "does not",
    ),
    Neutral("moe_layer_freq", (1,), "every layer after the first has experts"),
    Neutral("scoring_func", ("softmax",), "the router computes softmax"),
    Neutral("attention_bias", (False,), "the class's attention has no biases"),
    Neutral("mlp_bias", (False,), "the class's MLPs have no biases"),
    Neutral("model_type", ("deepseek_v2",), "the type of its class"),
    Inert(
        ("aux_loss_alpha", "seq_aux", "router_aux_loss_coef", "output_router_logits"),
        "how it was trained",
    ),
    Inert(("ep_size",), "how the published code spreads experts over processes"),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"
_TARGET = f"{LAYER}.attention"
_EXPERT = f"{_SOURCE}.mlp.experts.{{expert}}"
_SHARED = f"{_SOURCE}.mlp.shared_experts"
_DENSE = "layer == 0"
_EXPERTS = "layer > 0"
_LOW_RANK = "q_lora_rank != None"
_FULL_RANK = "q_lora_rank == None"
_UP = ("moe_inter_size", "hidden_size")
_SHARED_SIZE = "moe.shared_expert_intermediate_size"

_HEADS = "num_attention_heads"
_NOPE = Pick(0, _HEADS, "0", "qk_nope_head_dim")
_VALUES = Pick(0, _HEADS, "qk_nope_head_dim", "qk_nope_head_dim + v_head_dim")
_KV_B = f"{_ATTENTION}.kv_b_proj.weight"
_KV_B_SHAPE = (f"{_HEADS}*(qk_nope_head_dim + v_head_dim)", "kv_lora_rank")
_KV_A = Part(
    f"{_ATTENTION}.kv_a_proj_with_mqa.weight", ("kv_lora_rank + qk_rope_head_dim", "hidden_size")
)


def _fused_queries(source: str, columns: str, when: str) -> tuple[Make, ...]:
    """Per head: keys' projection, transposed, times that of queries; then queries with position."""
    name, shape = f"{_ATTENTION}.{source}.weight", (f"{_HEADS}*qk_head_dim", columns)
    plain = Part(name, shape, pick=_NOPE)
    rotated = Part(name, shape, (QUERIES,), Pick(0, _HEADS, "qk_nope_head_dim", "qk_head_dim"))
    product = Product(plain, Part(_KV_B, _KV_B_SHAPE, pick=_NOPE), _HEADS)
    return (Make(f"{_TARGET}.fused_q_proj", (product, rotated), groups=_HEADS, when=when),)


_QUERIES = (f"{_HEADS}*qk_head_dim", "q_lora_rank")
_FULL_QUERIES = (f"{_HEADS}*qk_head_dim", "hidden_size")

_WEIGHT_MAP = (
    Make(
        "transformer.vocab_embedding.weight",
        (Part("model.embed_tokens.weight", ("vocab_size", "hidden_size")),),
        on="first",
    ),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    Make(
        f"{_TARGET}.fused_a.weight",
        (Part(f"{_ATTENTION}.q_a_proj.weight", ("q_lora_rank", "hidden_size")), _KV_A),
        when=_LOW_RANK,
    ),
    Make(f"{_TARGET}.fused_a.weight", (_KV_A,), when=_FULL_RANK),
    *norm(
        f"{_ATTENTION}.q_a_layernorm",
        f"{_TARGET}.q_a_layernorm",
        size="q_lora_rank",
        when=_LOW_RANK,
    ),
    *norm(f"{_ATTENTION}.kv_a_layernorm", f"{_TARGET}.kv_a_layernorm", size="kv_lora_rank"),
    Make(
        f"{_TARGET}.q_b_proj",
        (Part(f"{_ATTENTION}.q_b_proj.weight", _QUERIES, (QUERIES,)),),
        when=_LOW_RANK,
    ),
    Make(
        f"{_TARGET}.q_b_proj",
        (Part(f"{_ATTENTION}.q_proj.weight", _FULL_QUERIES, (QUERIES,)),),
        when=_FULL_RANK,
    ),
    Make(
        f"{_TARGET}.kv_b_proj",
        (
            Part(_KV_B, _KV_B_SHAPE, (QUERIES,), _NOPE),
            Part(_KV_B, _KV_B_SHAPE, (QUERIES,), _VALUES),
        ),
    ),
    Make(
        f"{_TARGET}.k_b_proj_trans",
        (Part(_KV_B, _KV_B_SHAPE, (QUERIES,), _NOPE, transposed=True, blocks=_HEADS),),
    ),
    *_fused_queries("q_b_proj", "q_lora_rank", _LOW_RANK),
    *_fused_queries("q_proj", "hidden_size", _FULL_RANK),
    *row_linear(
        f"{_ATTENTION}.o_proj", f"{_TARGET}.dense", columns=f"{_HEADS}*v_head_dim", unit=_HEADS
    ),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    *gated_mlp(f"{_SOURCE}.mlp", when=_DENSE),
    *router(f"{_SOURCE}.mlp.gate", when=_EXPERTS),
    *experts(
        (Part(f"{_EXPERT}.up_proj.weight", _UP), Part(f"{_EXPERT}.gate_proj.weight", _UP)),
        Part(f"{_EXPERT}.down_proj.weight", ("hidden_size", "moe_inter_size")),
        size="moe_inter_size",
        when=_EXPERTS,
    ),
    *shared_expert(_SHARED, _SHARED_SIZE, when=_EXPERTS),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
    *rotary_buffer(_ATTENTION),
)

FAMILY = Family(
    name="deepseek2",
    architectures=("DeepseekV2ForCausalLM",),
    model_class=DEEPSEEK2,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
