"""Llama 1 to 3.3, Mistral, and all that use their classes (Yi, Vicuna, SmolLM2, TinyLlama, ...).

Read: transformers 4.57 and 5.23 (`configuration_llama.py`, `configuration_mistral.py`,
`modeling_rope_utils.py`); TensorRT-LLM 1.x (`models/llama/config.py`, `models/llama/model.py`,
`models/model_weights_loader.py`, `layers/attention.py`).
"""

from __future__ import annotations

from pipeline.weights.config_rules import (
    Constant,
    Copy,
    Divides,
    Formula,
    Given,
    Inert,
    Neutral,
    Rope,
    Window,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import GENERAL_KEYS, NO_EXPERTS, NO_QUANTIZATION
from pipeline.weights.inventory import LLAMA_INVENTORY
from pipeline.weights.rope import ROPE_TYPES
from pipeline.weights.rules import Concat, Drop, Part, Rename, Shard

_LLAMA = "LlamaForCausalLM"
_MISTRAL = "MistralForCausalLM"

# What follows is written in the order of TensorRT-LLM's own converter. `share_embedding_table` is
# left out: 1.2 no longer names it.
_CONFIG = (
    Copy("mlp_bias", "flag", default=False, only=(_LLAMA,)),
    Copy("mlp_bias", "flag", default=False, allowed=(False,), only=(_MISTRAL,)),
    Copy("attn_bias", "flag", ("attention_bias",), default=False, only=(_LLAMA,)),
    Copy(
        "attn_bias", "flag", ("attention_bias",), default=False, allowed=(False,), only=(_MISTRAL,)
    ),
    Rope("rotary_base", "rotary_scaling", default_base=10000.0, types=ROPE_TYPES),
    Constant("residual_mlp", False),
    Constant("disable_weight_only_quant_plugin", False),
    NO_EXPERTS,
    Constant("remove_duplicated_kv_heads", False),
    Given("architecture", ("architectures",)),
    Given("dtype", ("torch_dtype", "dtype")),
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count"),
    Copy("num_hidden_layers", "count"),
    Copy("num_attention_heads", "count"),
    Copy(
        "hidden_act",
        "text",
        default="silu",
        allowed=("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"),
        aliases={"swish": "silu"},
    ),
    Constant("logits_dtype", "float32"),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-6),
    Constant("position_embedding_type", "rope_gpt_neox"),
    Copy("max_position_embeddings", "count", default=2048, only=(_LLAMA,)),
    Copy("max_position_embeddings", "count", default=131072, only=(_MISTRAL,)),
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads"), only=(_LLAMA,)),
    Copy("num_key_value_heads", "count", only=(_MISTRAL,)),
    Copy("intermediate_size", "count"),
    Given("mapping"),
    NO_QUANTIZATION,
    Constant("use_parallel_embedding", False),
    Constant("embedding_sharding_dim", 0),
    Copy("head_size", "count", ("head_dim",), default=Formula("hidden_size/num_attention_heads")),
    Constant("qk_layernorm", False),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    # Not written: read by the weight map, or by the plan.
    Copy("tie_word_embeddings", "flag", default=False, written=False),
    Window("sliding_window", default=4096, only=(_MISTRAL,)),
    Neutral("model_type", ("llama",), "the type of its class", only=(_LLAMA,)),
    Neutral("model_type", ("mistral",), "the type of its class", only=(_MISTRAL,)),
    Neutral("num_local_experts", (None, 0), "this family has no experts"),
    Neutral("num_experts_per_tok", (None, 0), "this family has no experts"),
    Neutral("partial_rotary_factor", (None, 1, 1.0), "all of a head is rotated"),
    Neutral("rope_interleaved", (None, False), "the halves of a head are rotated, not pairs"),
    Neutral("bias", (None, False), "another family's spelling of `attention_bias`"),
    Inert(("sliding_window",), "Llama attends to all tokens", only=(_LLAMA,)),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_TARGET = "transformer.layers.{layer}"
_Q_SIZE = "num_attention_heads*head_size"
_KV_SIZE = "num_key_value_heads*head_size"
_QUERIES = Shard(0, "num_attention_heads")
# With fewer K/V heads than ranks, a rank gets a whole head that others have too.
_KEYS = Shard(0, "num_key_value_heads", replicate=True)
_ROWS = Shard(0, "intermediate_size")


def _qkv(kind: str, *tail: str) -> tuple[Part, ...]:
    """Queries, keys and values in the order in which TensorRT-LLM stacks them."""
    attention = f"{_SOURCE}.self_attn"
    return (
        Part(f"{attention}.q_proj.{kind}", (_Q_SIZE, *tail), _QUERIES),
        Part(f"{attention}.k_proj.{kind}", (_KV_SIZE, *tail), _KEYS),
        Part(f"{attention}.v_proj.{kind}", (_KV_SIZE, *tail), _KEYS),
    )


_WEIGHT_MAP = (
    Rename(
        "model.embed_tokens.weight",
        "transformer.vocab_embedding.weight",
        ("vocab_size", "hidden_size"),
        on="first",
    ),
    Rename(
        f"{_SOURCE}.input_layernorm.weight", f"{_TARGET}.input_layernorm.weight", ("hidden_size",)
    ),
    Concat(_qkv("weight", "hidden_size"), f"{_TARGET}.attention.qkv.weight"),
    Concat(_qkv("bias"), f"{_TARGET}.attention.qkv.bias", when="attn_bias"),
    Rename(
        f"{_SOURCE}.self_attn.o_proj.weight",
        f"{_TARGET}.attention.dense.weight",
        ("hidden_size", _Q_SIZE),
        Shard(1, "num_attention_heads"),
    ),
    # Added once, after the ranks' results are summed: whole on every rank.
    Rename(
        f"{_SOURCE}.self_attn.o_proj.bias",
        f"{_TARGET}.attention.dense.bias",
        ("hidden_size",),
        when="attn_bias",
    ),
    Rename(
        f"{_SOURCE}.post_attention_layernorm.weight",
        f"{_TARGET}.post_layernorm.weight",
        ("hidden_size",),
    ),
    # The names mislead: TensorRT-LLM's gated MLP computes proj(act(fc(x)) * gate(x)), so its `fc`
    # is the source's gate_proj and its `gate` the up_proj (`layers/mlp.py`, GatedMLP;
    # `models/model_weights_loader.py`).
    Rename(
        f"{_SOURCE}.mlp.gate_proj.weight",
        f"{_TARGET}.mlp.fc.weight",
        ("intermediate_size", "hidden_size"),
        _ROWS,
    ),
    Rename(
        f"{_SOURCE}.mlp.gate_proj.bias",
        f"{_TARGET}.mlp.fc.bias",
        ("intermediate_size",),
        _ROWS,
        when="mlp_bias",
    ),
    Rename(
        f"{_SOURCE}.mlp.up_proj.weight",
        f"{_TARGET}.mlp.gate.weight",
        ("intermediate_size", "hidden_size"),
        _ROWS,
    ),
    Rename(
        f"{_SOURCE}.mlp.up_proj.bias",
        f"{_TARGET}.mlp.gate.bias",
        ("intermediate_size",),
        _ROWS,
        when="mlp_bias",
    ),
    Rename(
        f"{_SOURCE}.mlp.down_proj.weight",
        f"{_TARGET}.mlp.proj.weight",
        ("hidden_size", "intermediate_size"),
        Shard(1, "intermediate_size"),
    ),
    Rename(
        f"{_SOURCE}.mlp.down_proj.bias",
        f"{_TARGET}.mlp.proj.bias",
        ("hidden_size",),
        when="mlp_bias",
    ),
    Rename("model.norm.weight", "transformer.ln_f.weight", ("hidden_size",), on="last"),
    # Always written, for a tied model from the embedding: where TensorRT-LLM does not merge the
    # two (tp or pp over 1), a head that is left out is filled with random values, silently.
    Rename(
        "lm_head.weight",
        "lm_head.weight",
        ("vocab_size", "hidden_size"),
        Shard(0, "vocab_size", pad=True),
        on="last",
        unless="tie_word_embeddings",
    ),
    Rename(
        "model.embed_tokens.weight",
        "lm_head.weight",
        ("vocab_size", "hidden_size"),
        Shard(0, "vocab_size", pad=True),
        on="last",
        when="tie_word_embeddings",
    ),
    Drop(
        "lm_head.weight",
        "the head is tied to the embedding",
        same_as="model.embed_tokens.weight",
        when="tie_word_embeddings",
    ),
    Drop(
        f"{_SOURCE}.self_attn.rotary_emb.inv_freq",
        "a buffer of old checkpoints, worked out from the rotary base",
    ),
)

FAMILY = Family(
    name="llama",
    architectures=(_LLAMA, _MISTRAL),
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
    inventory=LLAMA_INVENTORY,
)
