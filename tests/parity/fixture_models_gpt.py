"""The fixtures of classes with LayerNorm, or with fused projections, of transformers."""

from __future__ import annotations

from typing import Any

from tests.parity.fixture_sizes import LAYER_NORM, Model

GPT2: dict[str, Any] = {
    "vocab_size": 113,
    "n_embd": 24,
    "n_head": 6,
    "n_layer": 3,
    "n_positions": 32,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
PARTIAL = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
FALCON: dict[str, Any] = {
    "vocab_size": 113,
    "hidden_size": 24,
    "num_attention_heads": 6,
    "num_hidden_layers": 3,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
COHERE = LAYER_NORM | {"logit_scale": 0.0625, "pad_token_id": 0, "eos_token_id": 2}
OPT: dict[str, Any] = {
    "vocab_size": 113,
    "hidden_size": 24,
    "ffn_dim": 60,
    "num_attention_heads": 6,
    "num_hidden_layers": 3,
    "max_position_embeddings": 32,
    "word_embed_proj_dim": 24,
}

GPT_LIKE: dict[str, Model] = {
    "cohere": Model("Cohere", "float16", COHERE),
    "cohere-qk-norm": Model("Cohere", "bfloat16", COHERE | {"use_qk_norm": True}),
    "dbrx": Model(
        "Dbrx",
        "bfloat16",
        {
            "vocab_size": 113,
            "d_model": 24,
            "n_heads": 6,
            "n_layers": 3,
            "max_seq_len": 128,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 2.0, "rope_theta": 500000.0},
            "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
            "ffn_config": {
                "ffn_hidden_size": 20,
                "hidden_size": 24,
                "ffn_act_fn": {"name": "silu"},
                "moe_num_experts": 4,
                "moe_top_k": 2,
                "moe_normalize_expert_weights": 1.0,
            },
        },
    ),
    "phi": Model(
        "Phi",
        "float16",
        LAYER_NORM
        | {
            "hidden_size": 32,
            "intermediate_size": 56,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "rope_parameters": PARTIAL,
        },
    ),
    "gpt2": Model("GPT2", "float32", GPT2),
    "gpt2-bare": Model("GPT2", "float32", GPT2 | {"n_layer": 2}),
    "gptbigcode": Model("GPTBigCode", "float16", GPT2 | {"n_inner": 56, "multi_query": True}),
    "starcoder2": Model(
        "Starcoder2",
        "bfloat16",
        LAYER_NORM
        | {
            "use_bias": True,
            "sliding_window": 64,
            "tie_word_embeddings": True,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
    ),
    "nemotron": Model(
        "Nemotron",
        "bfloat16",
        LAYER_NORM
        | {
            "hidden_size": 32,
            "head_dim": 8,
            "num_attention_heads": 4,
            "rope_parameters": PARTIAL,
        },
    ),
    "gptneox": Model(
        "GPTNeoX",
        "float16",
        {
            "vocab_size": 113,
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_hidden_layers": 3,
            "max_position_embeddings": 32,
            "rope_parameters": PARTIAL,
        },
    ),
    "gptj": Model(
        "GPTJ", "float16", GPT2 | {"n_embd": 32, "n_head": 4, "n_layer": 2, "rotary_dim": 4}
    ),
    "opt": Model("OPT", "float16", OPT),
    "opt-350m": Model(
        "OPT", "float16", OPT | {"word_embed_proj_dim": 20, "do_layer_norm_before": False}
    ),
    "bloom": Model(
        "Bloom",
        "bfloat16",
        {"vocab_size": 113, "hidden_size": 24, "n_head": 6, "n_layer": 3},
    ),
    "bloom-bare": Model(
        "Bloom",
        "float16",
        {"vocab_size": 113, "hidden_size": 24, "n_head": 4, "n_layer": 2},
    ),
    "mpt": Model(
        "Mpt",
        "bfloat16",
        {
            "vocab_size": 113,
            "d_model": 24,
            "n_heads": 6,
            "n_layers": 3,
            "max_seq_len": 128,
            "expansion_ratio": 4,
            "learned_pos_emb": False,
            "attn_config": {"clip_qkv": 1.5, "alibi": True, "alibi_bias_max": 8},
        },
        "MPTForCausalLM",
    ),
    "falcon-7b": Model("Falcon", "bfloat16", FALCON | {"multi_query": True, "parallel_attn": True}),
    "falcon-40b": Model(
        "Falcon",
        "bfloat16",
        FALCON | {"num_kv_heads": 2, "new_decoder_architecture": True},
    ),
    "falcon-11b": Model(
        "Falcon",
        "bfloat16",
        FALCON
        | {"num_kv_heads": 2, "new_decoder_architecture": True, "num_ln_in_parallel_attn": 1},
    ),
    "falcon-rw": Model(
        "Falcon",
        "float16",
        FALCON | {"multi_query": False, "parallel_attn": False, "bias": True, "alibi": True},
    ),
}
