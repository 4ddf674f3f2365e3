"""config.json of published models, as a conversion writes it: the sizes that memory depends on."""

from __future__ import annotations

from typing import Any

from pipeline.recipe.schema import Attention, EngineSettings
from pipeline.weights.parallel import Parallelism

Config = dict[str, Any]


def config(**keys: Any) -> Config:
    """A Llama's; `tp` and `pp` are its layout."""
    parallelism = Parallelism(keys.pop("tp", 1), keys.pop("pp", 1))
    usual = {
        "architecture": "LlamaForCausalLM",
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "position_embedding_type": "rope_gpt_neox",
        "max_position_embeddings": 131072,
        "head_size": 128,
        "rotary_embedding_dim": 128,
        "rotary_scaling": None,
        "logits_dtype": "float32",
        "tie_word_embeddings": False,
        "attn_bias": False,
        "mlp_bias": False,
        "moe": {"num_experts": 0, "top_k": 0, "shared_expert_intermediate_size": 0},
        "quantization": {"quant_algo": None, "kv_cache_quant_algo": None},
        "use_parallel_embedding": False,
        "embedding_sharding_dim": 0,
    }
    return {**usual, "mapping": parallelism.mapping(), **keys}


def llama(hidden: int, layers: int, heads: int, kv_heads: int, mlp: int, **keys: Any) -> Config:
    """A model of Llama's class by its sizes."""
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    others = {"num_key_value_heads": kv_heads, "intermediate_size": mlp, "vocab_size": 128256}
    return config(**{**sizes, **others, **keys})


def llama_70b(**keys: Any) -> Config:
    """Llama 3.x 70B."""
    return llama(8192, 80, 64, 8, 28672, **keys)


def llama_8b(**keys: Any) -> Config:
    """Llama 3.1 8B."""
    return llama(4096, 32, 32, 8, 14336, **keys)


def llama_2_7b(**keys: Any) -> Config:
    """Llama 2 7B."""
    sizes = {"vocab_size": 32000, "max_position_embeddings": 4096, "dtype": "float16"}
    return llama(4096, 32, 32, 32, 11008, **{**sizes, **keys})


def llama_2_13b(**keys: Any) -> Config:
    """Llama 2 13B."""
    sizes = {"vocab_size": 32000, "max_position_embeddings": 4096, "dtype": "float16"}
    return llama(5120, 40, 40, 40, 13824, **{**sizes, **keys})


def qwen_half_b(**keys: Any) -> Config:
    """Qwen2.5 0.5B by Llama's class: its biases are small."""
    sizes = {"vocab_size": 151936, "head_size": 64, "rotary_embedding_dim": 64, "dtype": "float16"}
    return llama(896, 24, 14, 2, 4864, **{**sizes, "tie_word_embeddings": True, **keys})


def kimi_k2(**keys: Any) -> Config:
    """Kimi K2 Thinking in bfloat16: 384 experts, a trillion parameters, MLA."""
    latent = {"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128}
    sizes = {
        "architecture": "DeepseekV2ForCausalLM",
        "vocab_size": 163840,
        "moe": {"num_experts": 384, "top_k": 8, "shared_expert_intermediate_size": 2048},
        "moe_inter_size": 2048,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "head_size": 192,
        "rotary_embedding_dim": 64,
    }
    return llama(7168, 61, 64, 64, 18432, **{**latent, **sizes, **keys})


def asked(fused: bool = True, require: bool = False, **keys: Any) -> EngineSettings:
    """Settings for sm90; unfused attention is allowed."""
    attention = Attention(context_fmha=fused, require_fused=require)
    targets = keys.pop("targets", ("sm90",))
    return EngineSettings(targets=targets, attention=attention, **keys)
