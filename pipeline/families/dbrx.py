"""DBRX (base and instruct).

Read: transformers 4.57 and 5.23 (`configuration_dbrx.py`, `modeling_dbrx.py`); TensorRT-LLM 0.17 to
1.x (`examples/**/dbrx/convert_checkpoint.py`, `models/dbrx/model.py`, `layers/moe.py`).

Unlike TensorRT-LLM's converter: values of `moe_normalize_expert_weights` and `ffn_act_fn` that it
ignores, and that its class would compute as the usual ones, are refused; without an option, the
dtype is the source's (there it is float16).
"""

from __future__ import annotations

from pipeline.model_classes.dbrx import DBRX
from pipeline.weights.config_rules import (
    Constant,
    Copy,
    Divides,
    Inert,
    Neutral,
    Unfold,
)
from pipeline.weights.decoder_rules import (
    LAYER,
    experts,
    fused_qkv,
    head,
    norm,
    router,
    row_linear,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import REMOTE_CODE_KEYS
from pipeline.weights.rules import Make, Part

_GENERAL = (
    *("architectures", "dtype", "torch_dtype", "model_type", "is_encoder_decoder"),
    *("add_cross_attention", "cross_attention_hidden_size", "tie_encoder_decoder", "pruned_heads"),
    *("tie_word_embeddings", "quantization_config"),
    *(key for rule in REMOTE_CODE_KEYS if isinstance(rule, Inert) for key in rule.sources),
)

_CONFIG = (
    Unfold("attn_config"),
    Unfold("ffn_config"),
    Unfold("rope_parameters"),
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count", ("d_model", "ffn_config.hidden_size")),
    Copy("num_hidden_layers", "count", ("n_layers",)),
    Copy("num_attention_heads", "count", ("n_heads",)),
    Copy(
        "num_key_value_heads", "count", ("attn_config.kv_n_heads", "num_key_value_heads"), default=1
    ),
    Copy("intermediate_size", "count", ("ffn_config.ffn_hidden_size",), default=3584),
    Copy("max_position_embeddings", "count", ("max_seq_len",), default=2048),
    Copy("clip_qkv", "number", ("attn_config.clip_qkv",), default=None),
    Copy(
        "rotary_base",
        "number",
        ("attn_config.rope_theta", "rope_parameters.rope_theta"),
        default=10000.0,
    ),
    Neutral("rope_parameters.rope_type", ("default",), "the reference has no rope scaling"),
    Neutral("rope_scaling", (None,), "the reference has no rope scaling"),
    Constant("norm_epsilon", 1e-5),
    Constant("hidden_act", "swiglu"),
    Neutral("ffn_config.ffn_act_fn", (None, {"name": "silu"}), "the class computes swiglu"),
    Copy("moe.num_experts", "count", ("ffn_config.moe_num_experts",), default=4),
    Copy("moe.top_k", "count", ("ffn_config.moe_top_k",), default=1),
    Neutral(
        "ffn_config.moe_normalize_expert_weights",
        (1, 1.0),
        "the weights of a token's experts sum up to 1",
    ),
    Constant("moe.normalization_mode", 1),
    Divides("num_attention_heads", "hidden_size"),
    Divides("num_key_value_heads", "num_attention_heads"),
    Neutral("tie_word_embeddings", (False,), "transformers refuses it too"),
    Neutral("model_type", ("dbrx",), "the type of its class"),
    Inert(
        (
            *("emb_pdrop", "resid_pdrop", "router_aux_loss_coef", "output_router_logits"),
            *("attn_config.attn_pdrop", "ffn_config.moe_jitter_eps", "ffn_config.moe_loss_weight"),
        ),
        "how it was trained",
    ),
    Inert(
        tuple(f"{config}.{key}" for config in ("attn_config", "ffn_config") for key in _GENERAL),
        "keys of every config, which a part of one does not use",
    ),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "transformer.blocks.{layer}"
_ATTENTION = f"{_SOURCE}.norm_attn_norm"
_MLP = f"{_SOURCE}.ffn.experts.mlp"
_EXPERT = ("moe.num_experts*intermediate_size", "hidden_size")

_WEIGHT_MAP = (
    Make(
        "transformer.vocab_embedding.weight",
        (Part("transformer.wte.weight", ("vocab_size", "hidden_size")),),
        on="first",
    ),
    *norm(f"{_ATTENTION}.norm_1", f"{LAYER}.input_layernorm"),
    *fused_qkv(f"{_ATTENTION}.attn.Wqkv"),
    *row_linear(
        f"{_ATTENTION}.attn.out_proj",
        f"{LAYER}.attention.dense",
        columns="hidden_size",
        unit="num_attention_heads",
    ),
    *norm(f"{_ATTENTION}.norm_2", f"{LAYER}.post_layernorm"),
    *router(f"{_SOURCE}.ffn.router.layer"),
    # The source computes silu(x w1) * (x v1), then w2, whose rows are those of its transpose.
    *experts(
        (Part(f"{_MLP}.v1", _EXPERT, stacked=True), Part(f"{_MLP}.w1", _EXPERT, stacked=True)),
        Part(f"{_MLP}.w2", _EXPERT, stacked=True, transposed=True),
    ),
    *norm("transformer.norm_f", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "transformer.wte.weight", tied="False"),
)

FAMILY = Family(
    name="dbrx",
    architectures=("DbrxForCausalLM",),
    model_class=DBRX,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
