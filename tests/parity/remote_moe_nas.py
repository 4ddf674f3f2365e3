"""Remote-code architectures whose layers differ from one another: DeepSeek MoE and DeciLM."""

from __future__ import annotations

from typing import Any

from tests.parity.remote_llama_like import (
    COMMON,
    HEADS,
    HIDDEN,
    MLP,
    NORMS,
    OUTER,
    VOCAB,
    attention,
    code,
    gated,
)
from tests.parity.remote_models import Remote, Shapes, prefixed

LAYER = "model.layers.{n}."
EXPERTS, EXPERT_MLP, SHARED = 4, 16, 2
DENSE: Shapes = prefixed(LAYER, {**attention(HIDDEN), **gated(MLP), **NORMS})
ROUTED: Shapes = {
    "mlp.gate.weight": (EXPERTS, HIDDEN),
    **{
        name: shape
        for expert in range(EXPERTS)
        for name, shape in gated(EXPERT_MLP, f"mlp.experts.{expert}.").items()
    },
    **gated(SHARED * EXPERT_MLP, "mlp.shared_experts."),
}
SPARSE: Shapes = prefixed(LAYER, {**attention(HIDDEN), **ROUTED, **NORMS})

# Nemotron-NAS rounds the width of an MLP, 2/3 * ffn_mult * hidden, up to a multiple of 256.
NAS_HIDDEN, NAS_HEADS, NAS_WIDTH = 16, 4, 4
NAS_NORM = (NAS_HIDDEN,)


def nas_block(group: int | None, mult: float | None, *linear: str) -> dict[str, Any]:
    """One entry of `block_configs`: no group and no width mean no operation, or a linear one."""
    return {
        "attention": {
            "n_heads_in_group": group,
            "no_op": group is None and "attention" not in linear,
            "num_sink_tokens": None,
            "replace_with_linear": "attention" in linear,
            "sparsify": None,
            "unshifted_sink": False,
            "use_prefill_window_in_sink_attention": False,
            "window_length": None,
        },
        "ffn": {
            "ffn_mult": mult,
            "no_op": mult is None and "ffn" not in linear,
            "replace_with_linear": "ffn" in linear,
            "sparsify": None,
        },
    }


def nas_layer(block: dict[str, Any]) -> Shapes:
    """The tensors of a layer: what does nothing has none, not even a norm."""
    made: dict[str, tuple[int, ...]] = {}
    heads, ffn = block["attention"], block["ffn"]
    if not heads["no_op"]:
        made["input_layernorm.weight"] = NAS_NORM
    if heads["replace_with_linear"]:
        made["self_attn.linear_attn.weight"] = (NAS_HIDDEN, NAS_HIDDEN)
    elif not heads["no_op"]:
        made |= attention(NAS_HEADS // heads["n_heads_in_group"] * NAS_WIDTH, NAS_HIDDEN)
    if not ffn["no_op"]:
        made["post_attention_layernorm.weight"] = NAS_NORM
    if ffn["replace_with_linear"]:
        made["mlp.linear_mlp.weight"] = (NAS_HIDDEN, NAS_HIDDEN)
    elif not ffn["no_op"]:
        width = -(-int(2 * ffn["ffn_mult"] * NAS_HIDDEN / 3) // 256) * 256
        made |= gated(width, hidden=NAS_HIDDEN)
    return prefixed(LAYER, made)


BLOCKS = [
    nas_block(2, 1.3125),
    nas_block(None, 26.0),
    nas_block(None, None, "attention"),
    nas_block(1, None, "ffn"),
]
DECI_CODE = {
    "AutoConfig": "configuration_decilm.DeciLMConfig",
    "AutoModelForCausalLM": "modeling_decilm.DeciLMForCausalLM",
}

LAYERED: dict[str, Remote] = {
    # deepseek-ai/deepseek-moe-16b-base
    "deepseek": Remote(
        "bfloat16",
        COMMON
        | {
            "architectures": ["DeepseekForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "auto_map": code("deepseek", "DeepseekConfig", "DeepseekForCausalLM")
            | {"AutoModel": "modeling_deepseek.DeepseekModel"},
            "aux_loss_alpha": 0.001,
            "first_k_dense_replace": 1,
            "max_position_embeddings": 128,
            "model_type": "deepseek",
            "moe_intermediate_size": EXPERT_MLP,
            "moe_layer_freq": 1,
            "n_routed_experts": EXPERTS,
            "n_shared_experts": SHARED,
            "norm_topk_prob": False,
            "num_experts_per_tok": 2,
            "num_key_value_heads": HEADS,
            "pretraining_tp": 1,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "scoring_func": "softmax",
            "seq_aux": True,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.36.0",
        },
        OUTER,
        (DENSE, SPARSE, SPARSE),
    ),
    # nvidia/Llama-3_1-Nemotron-51B-Instruct
    "deci": Remote(
        "bfloat16",
        COMMON
        | {
            "architectures": ["DeciLMForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "auto_map": DECI_CODE,
            "block_configs": BLOCKS,
            "eos_token_id": [2, 3, 4],
            "hidden_size": NAS_HIDDEN,
            "intermediate_size": None,
            "max_position_embeddings": 131072,
            "mlp_bias": False,
            "model_type": "nemotron-nas",
            "num_attention_heads": NAS_HEADS,
            "num_hidden_layers": len(BLOCKS),
            "num_key_value_heads": None,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": {
                "factor": 8.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "llama3",
            },
            "rope_theta": 500000.0,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.44.2",
        },
        {
            "model.embed_tokens.weight": (VOCAB, NAS_HIDDEN),
            "model.norm.weight": NAS_NORM,
            "lm_head.weight": (VOCAB, NAS_HIDDEN),
        },
        tuple(nas_layer(block) for block in BLOCKS),
    ),
    # Deci/DeciLM-7B: a number of key heads for each layer
    "decilm-7b": Remote(
        "bfloat16",
        COMMON
        | {
            "architectures": ["DeciLMForCausalLM"],
            "attention_bias": False,
            "auto_map": DECI_CODE,
            "max_position_embeddings": 128,
            "model_type": "deci",
            "num_key_value_heads": HEADS,
            "num_key_value_heads_per_layer": [2, 6, 2],
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": {"factor": 2.0, "type": "dynamic"},
            "rope_theta": 10000,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.35.2",
        },
        OUTER,
        tuple(
            prefixed(LAYER, {**attention(count * 4), **gated(MLP), **NORMS}) for count in (2, 6, 2)
        ),
    ),
}
