"""What the fixtures of transformers classes share: sizes, rope scalings, experts.

Hidden width, MLP widths, head count, head width and vocabulary differ from one another in every
fixture, so that no two exchanged axes have the same length.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Model(NamedTuple):
    """What one fixture is made from.

    Attributes:
        stem: Stem of the transformers class names, such as `Llama` of `LlamaForCausalLM`.
        dtype: Data type of the stored weights.
        config: Arguments of the config class.
        architecture: Name of the published architecture, where it is not the class's own.
    """

    stem: str
    dtype: str
    config: dict[str, Any]
    architecture: str | None = None


SIZES: dict[str, Any] = {
    "vocab_size": 113,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "pad_token_id": None,
}
# Classes whose heads are always hidden_size / num_attention_heads wide.
NARROW: dict[str, Any] = {k: v for k, v in SIZES.items() if k != "head_dim"}
LAYER_NORM: dict[str, Any] = {k: v for k, v in NARROW.items() if k != "rms_norm_eps"}
# Routed experts of one layer.
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 20}
QWEN_EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 12,
    "decoder_sparse_step": 1,
}
MULTIPLIERS = {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.25,
    "residual_multiplier": 0.22,
    "logits_scaling": 8.0,
    "tie_word_embeddings": True,
}
GEMMA = {
    "vocab_size": 114,
    "rms_norm_eps": 1e-6,
    "hidden_act": "gelu_pytorch_tanh",
    "pad_token_id": 0,
}
GEMMA2 = {k: v for k, v in GEMMA.items() if k != "hidden_act"} | {
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 12,
    "sliding_window": 32,
}
# Lower than the published 50 and 30, so that they change the logits of so small a model.
CAPS = {"attn_logit_softcapping": 4.0, "final_logit_softcapping": 5.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.05, 1.7],
    "long_factor": [1.2, 41.0],
}
PHI_MOE_ROPE = LONGROPE | {
    "short_mscale": 1.243163121016122,
    "long_mscale": 1.243163121016122,
    "original_max_position_embeddings": 4096,
}
DEEPSEEK_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 0.707,
    "mscale_all_dim": 0.707,
    "original_max_position_embeddings": 32,
}
DEEPSEEK2: dict[str, Any] = NARROW | {
    "num_key_value_heads": 6,
    "kv_lora_rank": 14,
    "q_lora_rank": 22,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "moe_layer_freq": 1,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
    "topk_method": "group_limited_greedy",
    "scoring_func": "softmax",
    "norm_topk_prob": False,
    "routed_scaling_factor": 2.5,
    "rope_parameters": DEEPSEEK_ROPE,
}
LITE = {
    "q_lora_rank": None,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "greedy",
    "routed_scaling_factor": 1.0,
}
