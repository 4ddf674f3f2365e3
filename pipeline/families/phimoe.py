"""Phi-3.5-MoE and its finetunes (in transformers' own spelling PhimoeForCausalLM).

Read: transformers 4.57 and 5.23 (`configuration_phimoe.py`, `modeling_phimoe.py`), the config.json
file as published; TensorRT-LLM 0.17 and 1.x (`models/phi3/config.py`, `models/phi3/convert.py`,
`models/phi3/split_weights.py`, `models/phi3/model.py`, `layers/moe.py`).

Differences from TensorRT-LLM's converter, with the reasons:
- It takes long rope for granted from `max_position_embeddings` 128000 on; here the rope type says
  so, and its two `mscale` must be there. Without it the class and the model have plain rope.
- It writes `swiglu` for `silu` and copies any other activation, which its experts cannot compute.
- Head and head bias are padded where the ranks do not divide the vocabulary; there they are cut
  unevenly, and cannot be loaded. K/V heads are replicated where there are fewer than ranks.
- 0.17 leaves out `rotary_pct` and `tie_word_embeddings`, of which 1.x needs the first.
- Models without the biases that the class always has, with another head size than
  `hidden_size/num_attention_heads`, or with other than two experts per token are refused.
"""

from __future__ import annotations

from pipeline.model_classes.phimoe import PHI_MOE
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
    Window,
)
from pipeline.weights.decoder_rules import (
    LAYER,
    Q_SIZE,
    embedding,
    experts,
    head,
    norm,
    qkv,
    router,
    row_linear,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import REMOTE_CODE_KEYS, SIZES
from pipeline.weights.rules import Make, Part, Shard

_LENGTH = "original_max_position_embeddings"
_FACTORS = ("short_factor", "long_factor")
_LONG_ROPE = RopeType((*_FACTORS, "short_mscale", "long_mscale"), (_LENGTH,), lists=_FACTORS)

_CONFIG = (
    *SIZES,
    Neutral("hidden_act", ("silu", "swish"), "the class computes swiglu"),
    Constant("hidden_act", "swiglu"),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-5),
    Copy("max_position_embeddings", "count", default=131072),
    Copy("num_key_value_heads", "count", default=8),
    Copy("tie_word_embeddings", "flag", default=False),
    # REQUIRED: their defaults are false, but the class always has these biases.
    Copy("attention_bias", "flag", allowed=(True,)),
    Copy("has_head_bias", "flag", ("lm_head_bias",), allowed=(True,), written=False),
    Rope(
        "rotary_base",
        "long_rope",
        default_base=1000000.0,
        types={"longrope": _LONG_ROPE, "su": _LONG_ROPE},
        written=False,
    ),
    Copy("original_length", "count", (_LENGTH,), default=None, written=False),
    Computed("position_embedding_type", "'long_rope' if long_rope else 'rope_gpt_neox'"),
    Require(
        f"(not long_rope) or original_length or '{_LENGTH}' in long_rope",
        f"long rope needs `{_LENGTH}`",
    ),
    Require(
        f"(not long_rope) or (not original_length) or (not ('{_LENGTH}' in long_rope))"
        f" or long_rope['{_LENGTH}'] == original_length",
        f"the two `{_LENGTH}` disagree",
    ),
    Computed(
        _LENGTH,
        f"original_length if original_length else long_rope['{_LENGTH}']",
        when="long_rope",
    ),
    *(
        Require(
            f"(not long_rope) or 2*len(long_rope['{name}']) == head_size",
            f"`{name}` has not one number for every two values of a head",
        )
        for name in _FACTORS
    ),
    *(
        Computed(f"longrope_scaling_{name}s", f"long_rope['{name}']", when="long_rope")
        for name in _FACTORS
    ),
    *(
        Computed(f"longrope_{name}", f"long_rope['{name}']", when="long_rope")
        for name in ("short_mscale", "long_mscale")
    ),
    Copy("moe.num_experts", "count", ("num_local_experts",), default=16),
    Copy("moe.top_k", "count", ("num_experts_per_tok",), default=2, allowed=(2,)),
    Copy("moe.sparse_mixer_epsilon", "number", ("router_jitter_noise",), default=0.01),
    Require("moe.num_experts > 1", "two experts per token need two experts"),
    Copy(
        "given_head_size",
        "count",
        ("head_dim",),
        default=Formula("hidden_size/num_attention_heads"),
        written=False,
    ),
    Require("given_head_size == head_size", "`head_dim` is not `hidden_size` over heads"),
    Divides("num_attention_heads", "hidden_size"),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Window("sliding_window", default=None),
    Neutral("model_type", ("phimoe",), "the type of its class"),
    Inert(("output_router_logits",), "how transformers runs it"),
    Inert(("input_jitter_noise", "router_aux_loss_coef", "hidden_dropout"), "how it was trained"),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"
_EXPERT = f"{_SOURCE}.block_sparse_moe.experts.{{expert}}"
_ALWAYS = "True"

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm", bias=_ALWAYS),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj", bias=_ALWAYS),
    *row_linear(
        f"{_ATTENTION}.o_proj",
        f"{LAYER}.attention.dense",
        columns=Q_SIZE,
        unit="num_attention_heads",
        bias=_ALWAYS,
    ),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm", bias=_ALWAYS),
    *router(f"{_SOURCE}.block_sparse_moe.gate"),
    # An expert computes w2(silu(w1(x)) * w3(x)): w3 is the up projection, w1 the gate.
    *experts(
        fc=(
            Part(f"{_EXPERT}.w3.weight", ("intermediate_size", "hidden_size")),
            Part(f"{_EXPERT}.w1.weight", ("intermediate_size", "hidden_size")),
        ),
        proj=Part(f"{_EXPERT}.w2.weight", ("hidden_size", "intermediate_size")),
    ),
    *norm("model.norm", "transformer.ln_f", bias=_ALWAYS, on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
    Make(
        "lm_head.bias",
        (Part("lm_head.bias", ("vocab_size",), (Shard(0, "vocab_size", pad=True),)),),
        on="last",
    ),
)

FAMILY = Family(
    name="phimoe",
    architectures=("PhiMoEForCausalLM", "PhimoeForCausalLM"),
    model_class=PHI_MOE,
    aliases=("PhimoeForCausalLM",),
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
    # The class computes this variant only under its older name.
    writes_architecture="PhiMoEForCausalLM",
)
