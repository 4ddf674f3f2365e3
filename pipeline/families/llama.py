"""Llama 1 to 3.3, Mistral, and all that use their classes (Yi, Vicuna, SmolLM2, TinyLlama, ...).

Read: transformers 4.57 and 5.23 (`configuration_llama.py`, `configuration_mistral.py`,
`modeling_rope_utils.py`); TensorRT-LLM 1.x (`models/llama/config.py`, `models/llama/model.py`,
`models/model_weights_loader.py`, `layers/attention.py`).
"""

from __future__ import annotations

from pipeline.model_classes.llama import LLAMA
from pipeline.weights.config_rules import (
    Copy,
    Divides,
    Formula,
    Inert,
    Neutral,
    Rope,
    Window,
)
from pipeline.weights.decoder_rules import (
    LAYER,
    embedding,
    head,
    norm,
    qkv,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import GENERAL_KEYS, SIZES
from pipeline.weights.layer_rules import attention_dense, gated_mlp, rotary_buffer
from pipeline.weights.rope import ROPE_TYPES

_LLAMA = "LlamaForCausalLM"
_MISTRAL = "MistralForCausalLM"

_CONFIG = (
    *SIZES,
    Copy("mlp_bias", "flag", default=False, only=(_LLAMA,)),
    Copy("mlp_bias", "flag", default=False, allowed=(False,), only=(_MISTRAL,)),
    Copy("attn_bias", "flag", ("attention_bias",), default=False, only=(_LLAMA,)),
    Copy(
        "attn_bias", "flag", ("attention_bias",), default=False, allowed=(False,), only=(_MISTRAL,)
    ),
    Rope("rotary_base", "rotary_scaling", default_base=10000.0, types=ROPE_TYPES),
    Copy(
        "hidden_act",
        "text",
        default="silu",
        allowed=("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"),
        aliases={"swish": "silu"},
    ),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-6),
    Copy("max_position_embeddings", "count", default=2048, only=(_LLAMA,)),
    Copy("max_position_embeddings", "count", default=131072, only=(_MISTRAL,)),
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads"), only=(_LLAMA,)),
    Copy("num_key_value_heads", "count", only=(_MISTRAL,)),
    Copy("head_size", "count", ("head_dim",), default=Formula("hidden_size/num_attention_heads")),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Copy("tie_word_embeddings", "flag", default=False),
    Window("sliding_window", default=4096, only=(_MISTRAL,)),
    Neutral("model_type", ("llama",), "the type of its class", only=(_LLAMA,)),
    Neutral("model_type", ("mistral",), "the type of its class", only=(_MISTRAL,)),
    Neutral("num_local_experts", (None, 0), "this family has no experts"),
    Neutral("num_experts_per_tok", (None, 0), "this family has no experts"),
    Neutral("partial_rotary_factor", (None, 1, 1.0), "all of a head is rotated"),
    Neutral("rope_interleaved", (None, False), "the halves of a head are rotated, not pairs"),
    Neutral("bias", (None, False), "another family's spelling of `attention_bias`"),
    Neutral("activation", (None, "swiglu"), "the MLP is gated; `hidden_act` says by what"),
    Inert(("sliding_window",), "Llama attends to all tokens", only=(_LLAMA,)),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj", bias="attn_bias"),
    *attention_dense(f"{_ATTENTION}.o_proj", bias="attn_bias"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    *gated_mlp(f"{_SOURCE}.mlp", bias="mlp_bias"),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
    *rotary_buffer(_ATTENTION),
)

FAMILY = Family(
    name="llama",
    architectures=(_LLAMA, _MISTRAL),
    model_class=LLAMA,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
