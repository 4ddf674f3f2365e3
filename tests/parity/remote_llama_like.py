"""Remote-code architectures whose blocks are those of LLaMA, under these or other names."""

from __future__ import annotations

from typing import Any

from tests.parity.remote_models import Remote, Shapes, prefixed

VOCAB, HIDDEN, MLP, HEADS, KV_HEADS, WIDTH = 113, 24, 40, 6, 2, 4
KV = KV_HEADS * WIDTH
NORMS: Shapes = {
    "input_layernorm.weight": (HIDDEN,),
    "post_attention_layernorm.weight": (HIDDEN,),
}
OUTER: Shapes = {
    "model.embed_tokens.weight": (VOCAB, HIDDEN),
    "model.norm.weight": (HIDDEN,),
    "lm_head.weight": (VOCAB, HIDDEN),
}


def code(module: str, config: str, model: str) -> dict[str, str]:
    """The `auto_map` of a published config."""
    return {
        "AutoConfig": f"configuration_{module}.{config}",
        "AutoModel": f"modeling_{module}.{model}",
        "AutoModelForCausalLM": f"modeling_{module}.{model}",
    }


def gated(width: int, prefix: str = "mlp.", hidden: int = HIDDEN) -> Shapes:
    """A gated MLP."""
    return {
        f"{prefix}gate_proj.weight": (width, hidden),
        f"{prefix}up_proj.weight": (width, hidden),
        f"{prefix}down_proj.weight": (hidden, width),
    }


def attention(kv: int, hidden: int = HIDDEN) -> Shapes:
    """Separate projections; `kv` is the width of all key heads together."""
    return {
        "self_attn.q_proj.weight": (hidden, hidden),
        "self_attn.k_proj.weight": (kv, hidden),
        "self_attn.v_proj.weight": (kv, hidden),
        "self_attn.o_proj.weight": (hidden, hidden),
    }


def biases(kv: int) -> Shapes:
    """The biases of the four projections."""
    return {name[:-6] + "bias": shape[:1] for name, shape in attention(kv).items()}


COMMON: dict[str, Any] = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": MLP,
    "num_attention_heads": HEADS,
    "num_hidden_layers": 3,
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": False,
    "use_cache": True,
    "vocab_size": VOCAB,
}
FREQUENCIES: Shapes = {"self_attn.rotary_emb.inv_freq": (WIDTH // 2,)}

LLAMA_LIKE: dict[str, Remote] = {
    # internlm/internlm-7b
    "internlm": Remote(
        "float16",
        COMMON
        | {
            "architectures": ["InternLMForCausalLM"],
            "auto_map": code("internlm", "InternLMConfig", "InternLMForCausalLM"),
            "bias": True,
            "max_position_embeddings": 128,
            "model_type": "internlm",
            "pad_token_id": 2,
            "rotary": {"base": 10000, "type": "dynamic"},
            "torch_dtype": "float16",
            "transformers_version": "4.29.2",
        },
        OUTER,
        (
            prefixed(
                "model.layers.{n}.",
                {**attention(HIDDEN), **biases(HIDDEN), **gated(MLP), **NORMS, **FREQUENCIES},
            ),
        )
        * 3,
        ("inv_freq",),
    ),
    # internlm/internlm2_5-7b-chat: per key head its query heads, then key, then value
    "internlm2": Remote(
        "bfloat16",
        COMMON
        | {
            "architectures": ["InternLM2ForCausalLM"],
            "attn_implementation": "eager",
            "auto_map": code("internlm2", "InternLM2Config", "InternLM2ForCausalLM"),
            "bias": False,
            "max_position_embeddings": 128,
            "model_type": "internlm2",
            "num_key_value_heads": KV_HEADS,
            "pad_token_id": 2,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": {"type": "dynamic", "factor": 2.0},
            "rope_theta": 1000000,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.41.0",
        },
        {
            "model.tok_embeddings.weight": (VOCAB, HIDDEN),
            "model.norm.weight": (HIDDEN,),
            "output.weight": (VOCAB, HIDDEN),
        },
        (
            {
                "model.layers.{n}.attention.wqkv.weight": (HIDDEN + 2 * KV, HIDDEN),
                "model.layers.{n}.attention.wo.weight": (HIDDEN, HIDDEN),
                "model.layers.{n}.feed_forward.w1.weight": (MLP, HIDDEN),
                "model.layers.{n}.feed_forward.w3.weight": (MLP, HIDDEN),
                "model.layers.{n}.feed_forward.w2.weight": (HIDDEN, MLP),
                "model.layers.{n}.attention_norm.weight": (HIDDEN,),
                "model.layers.{n}.ffn_norm.weight": (HIDDEN,),
            },
        )
        * 3,
    ),
    # Skywork/Skywork-13B-base
    "skywork": Remote(
        "bfloat16",
        COMMON
        | {
            "architectures": ["SkyworkForCausalLM"],
            "auto_map": code("skywork", "SkyworkConfig", "SkyworkForCausalLM"),
            "initializer_range": 0.01,
            "max_position_embeddings": 128,
            "model_type": "skywork",
            "num_key_value_heads": HEADS,
            "pad_token_id": 0,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.33.1",
        },
        OUTER,
        (prefixed("model.layers.{n}.", {**attention(HIDDEN), **gated(MLP), **NORMS}),) * 3,
    ),
}
