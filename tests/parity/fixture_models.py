"""The fixtures of the LLaMA-like classes of transformers: class, data type, config."""

from __future__ import annotations

from tests.parity.fixture_sizes import (
    CAPS,
    DEEPSEEK2,
    EXPERTS,
    GEMMA,
    GEMMA2,
    LITE,
    LLAMA3,
    LONGROPE,
    MULTIPLIERS,
    NARROW,
    PHI_MOE_ROPE,
    QWEN_EXPERTS,
    SIZES,
    YARN,
    Model,
)

LLAMA_LIKE: dict[str, Model] = {
    "llama": Model("Llama", "bfloat16", SIZES),
    "llama-tied": Model("Llama", "bfloat16", SIZES | {"tie_word_embeddings": True}),
    "llama-biased": Model(
        "Llama",
        "float32",
        SIZES | {"attention_bias": True, "mlp_bias": True, "num_hidden_layers": 2},
    ),
    "llama3-rope": Model("Llama", "bfloat16", SIZES | {"rope_parameters": LLAMA3}),
    "llama-yarn": Model(
        "Llama", "float16", SIZES | {"rope_parameters": YARN, "num_key_value_heads": 6}
    ),
    "llama-linear": Model(
        "Llama",
        "bfloat16",
        SIZES | {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "llama-dynamic": Model(
        "Llama",
        "bfloat16",
        SIZES | {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "mistral": Model("Mistral", "bfloat16", SIZES | {"sliding_window": None}),
    "mistral-window": Model(
        "Mistral", "bfloat16", SIZES | {"sliding_window": 32, "hidden_act": "gelu"}
    ),
    "mixtral": Model("Mixtral", "bfloat16", NARROW | EXPERTS | {"sliding_window": None}),
    "phimoe": Model(
        "Phimoe",
        "bfloat16",
        NARROW
        | EXPERTS
        | {
            "attention_bias": True,
            "lm_head_bias": True,
            "input_jitter_noise": 0.01,
            "router_jitter_noise": 0.01,
            "sliding_window": 131072,
            "max_position_embeddings": 131072,
            "rope_parameters": PHI_MOE_ROPE,
        },
        "PhiMoEForCausalLM",
    ),
    "granite": Model("Granite", "bfloat16", NARROW | MULTIPLIERS),
    "granitemoe": Model("GraniteMoe", "bfloat16", NARROW | EXPERTS | MULTIPLIERS),
    "qwen2": Model("Qwen2", "bfloat16", NARROW | {"use_sliding_window": False}),
    "qwen2-tied": Model("Qwen2", "float16", NARROW | {"tie_word_embeddings": True}),
    "qwen2moe": Model(
        "Qwen2Moe", "bfloat16", NARROW | QWEN_EXPERTS | {"shared_expert_intermediate_size": 28}
    ),
    "qwen3": Model("Qwen3", "bfloat16", SIZES),
    "qwen3-tied": Model("Qwen3", "bfloat16", SIZES | {"tie_word_embeddings": True}),
    "qwen3moe": Model("Qwen3Moe", "bfloat16", SIZES | QWEN_EXPERTS | {"norm_topk_prob": True}),
    "gemma": Model("Gemma", "bfloat16", SIZES | GEMMA),
    "gemma-mqa": Model("Gemma", "bfloat16", SIZES | GEMMA | {"num_key_value_heads": 1}),
    "gemma2": Model("Gemma2", "float32", SIZES | GEMMA2 | CAPS),
    "gemma3": Model(
        "Gemma3", "bfloat16", SIZES | GEMMA2 | {"num_hidden_layers": 4, "sliding_window_pattern": 3}
    ),
    "phi3": Model("Phi3", "bfloat16", NARROW | {"sliding_window": 2047, "eos_token_id": 2}),
    "phi3-longrope": Model(
        "Phi3",
        "bfloat16",
        NARROW
        | {
            "max_position_embeddings": 131072,
            "original_max_position_embeddings": 4096,
            "sliding_window": 262144,
            "eos_token_id": 2,
            "rope_parameters": LONGROPE,
        },
    ),
    # Phi-4-mini: three quarters of a head are rotated
    "phi4-mini": Model(
        "Phi3",
        "bfloat16",
        NARROW
        | {
            "hidden_size": 32,
            "num_attention_heads": 4,
            "max_position_embeddings": 131072,
            "original_max_position_embeddings": 4096,
            "sliding_window": 262144,
            "eos_token_id": 2,
            "tie_word_embeddings": True,
            "rope_parameters": LONGROPE
            | {
                "short_factor": [1.0, 1.1, 1.4],
                "long_factor": [1.0, 7.5, 33.0],
                "partial_rotary_factor": 0.75,
            },
        },
    ),
    "deepseek-v2": Model("DeepseekV2", "bfloat16", DEEPSEEK2),
    "deepseek-v2-lite": Model("DeepseekV2", "bfloat16", DEEPSEEK2 | LITE),
}
