"""What a decoder graph needs to know of a TensorRT-LLM checkpoint's `config.json`, checked.

Every key is either used here, known to change nothing here, or an error: a key that is silently
ignored could be one that changes the mathematics. Imports nothing heavy: the plan uses it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.errors import Problem, RecipeError

ARCHITECTURES = (
    *("LlamaForCausalLM", "MistralForCausalLM", "ExaoneForCausalLM", "InternLMForCausalLM"),
    *("InternLM2ForCausalLM", "SkyworkForCausalLM"),
)
"""Decoders of the LLaMA class: pre-norm RMS, rotary positions, gated MLP, one residual each."""

DTYPES = ("bfloat16", "float16", "float32")

ACTIVATIONS = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
"""Names as in Hugging Face configs; `gelu_new` and `gelu_pytorch_tanh` are the same function."""

ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn")

# Keys whose other values would need more graph: the only values with which it is right as it is.
_NEUTRAL: Mapping[str, tuple[Json, ...]] = {
    "qk_layernorm": (False,),
    "residual_mlp": (False, None),
    "fc_after_embed": (False, None),
    "use_input_layernorm_in_first_layer": (True, None),
    "use_last_layernorm": (True, None),
    "layer_idx_offset": (0, None),
    "has_partial_lora_mask": (False, None),
    "embedding_multiplier": (1, 1.0, None),
    "attention_multiplier": (1, 1.0, None),
    "residual_multiplier": (1, 1.0, None),
    "output_multiplier_scale": (1, 1.0, None),
    "rotary_pct": (1, 1.0, None),
    "position_embedding_type": ("rope_gpt_neox", "yarn"),
    "sliding_window": (None,),
    "logits_dtype": ("float32", "float16", "bfloat16"),
}

# Keys that say how TensorRT-LLM builds or runs, or repeat what the tensors say: no mathematics.
_INERT = (
    "disable_weight_only_quant_plugin",
    "producer",
    "remove_duplicated_kv_heads",
    "runtime_defaults",
    "share_embedding_table",
    "tie_word_embeddings",
)

_USED = (
    *("architecture", "attn_bias", "dtype", "embedding_sharding_dim", "head_size", "hidden_act"),
    *("hidden_size", "intermediate_size", "mapping", "max_position_embeddings", "mlp_bias", "moe"),
    *("norm_epsilon", "num_attention_heads", "num_hidden_layers", "num_key_value_heads"),
    *("quantization", "rotary_base", "rotary_embedding_dim", "rotary_scaling"),
    *("use_parallel_embedding", "vocab_size"),
)


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """The decoder in the words of Hugging Face configs; sizes are of the whole model."""

    architecture: str
    dtype: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_size: int
    hidden_act: str
    norm_epsilon: float
    attn_bias: bool
    mlp_bias: bool
    rotary_base: float
    rotary_scaling: Mapping[str, Json] | None
    max_position_embeddings: int
    tp_size: int
    pp_size: int
    embedding_shard_dim: int | None
    """The dim on which the ranks of a tp group share the embedding; None: each has all of it."""


def read_config(config: Mapping[str, Json]) -> DecoderConfig:
    """The decoder that a `config.json` describes (format: TensorRT-LLM 1.2, `modeling_utils.py`).

    Raises RecipeError with every key that the decoder graph cannot honour.
    """
    faults = _faults(config)
    if faults:
        raise RecipeError(
            "the decoder graph cannot express this checkpoint",
            facts=faults,
            hint="use the backend `trtllm`, or remove what is not supported from the model",
        )
    num_heads = config["num_attention_heads"]
    mapping = config.get("mapping") or {}
    shared = bool(config.get("use_parallel_embedding", False))
    return DecoderConfig(
        architecture=config["architecture"],
        dtype=config["dtype"],
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        intermediate_size=config.get("intermediate_size") or 4 * config["hidden_size"],
        num_hidden_layers=config["num_hidden_layers"],
        num_attention_heads=num_heads,
        num_key_value_heads=config.get("num_key_value_heads") or num_heads,
        head_size=config.get("head_size") or config["hidden_size"] // num_heads,
        hidden_act=config["hidden_act"],
        norm_epsilon=float(config.get("norm_epsilon", 1e-5)),
        attn_bias=bool(config.get("attn_bias", False)),
        mlp_bias=bool(config.get("mlp_bias", False)),
        rotary_base=float(config.get("rotary_base", 10000.0)),
        rotary_scaling=config.get("rotary_scaling"),
        max_position_embeddings=config["max_position_embeddings"],
        tp_size=mapping.get("tp_size", 1),
        pp_size=mapping.get("pp_size", 1),
        embedding_shard_dim=config.get("embedding_sharding_dim", 0) if shared else None,
    )


def _faults(config: Mapping[str, Json]) -> list[str]:
    """All that is wrong; of another architecture that alone, since its keys are others too."""
    architecture = config.get("architecture")
    if architecture is not None and architecture not in ARCHITECTURES:
        return [f"`architecture` is `{architecture}`; supported: {_spell(ARCHITECTURES)}"]
    return [*_unknown_keys(config), *_unsupported_values(config)]


def _unknown_keys(config: Mapping[str, Json]) -> list[str]:
    known = (*_USED, *_INERT, *_NEUTRAL)
    faults = []
    for name in sorted(set(config) - set(known)):
        near = difflib.get_close_matches(name, known, 1)
        faults.append(f"`{name}` is not known" + (f" (`{near[0]}` is)" if near else ""))
    needed = ("architecture", "dtype", "hidden_act", "hidden_size", "max_position_embeddings")
    counts = ("num_attention_heads", "num_hidden_layers", "vocab_size")
    faults += [f"`{name}` is missing" for name in (*needed, *counts) if config.get(name) is None]
    return faults


def _unsupported_values(config: Mapping[str, Json]) -> list[str]:
    limits: dict[str, tuple[Json, ...]] = {
        "dtype": DTYPES,
        "hidden_act": ACTIVATIONS,
        **_NEUTRAL,
    }
    faults = [
        f"`{name}` is `{config[name]}`; supported: {_spell(values)}"
        for name, values in limits.items()
        if name in config and config[name] not in values
    ]
    if (config.get("moe") or {}).get("num_experts"):
        faults.append("`moe` has experts; only dense MLPs are supported")
    if (config.get("quantization") or {}).get("quant_algo"):
        faults.append("`quantization.quant_algo` is set; only plain weights are supported")
    if (config.get("mapping") or {}).get("cp_size", 1) != 1:
        faults.append("`mapping.cp_size` is not 1")
    return faults + _rotary_faults(config) + _head_faults(config)


def _head_faults(config: Mapping[str, Json]) -> list[str]:
    """Heads must be of even size, and shared evenly by queries and by tensor-parallel ranks."""
    num_heads, hidden_size = config.get("num_attention_heads"), config.get("hidden_size")
    if not num_heads or not hidden_size:
        return []  # said by `_unknown_keys`
    faults = []
    num_kv_heads = config.get("num_key_value_heads") or num_heads
    tp_size = (config.get("mapping") or {}).get("tp_size", 1)
    head_size = config.get("head_size") or hidden_size // num_heads
    if head_size % 2:
        faults.append(f"the head size is {head_size}; rotary positions pair its dims")
    for name, divisor in (("num_key_value_heads", num_kv_heads), ("mapping.tp_size", tp_size)):
        if num_heads % divisor:
            faults.append(f"`{name}` is {divisor}, which does not divide {num_heads} heads")
    return faults


def _rotary_faults(config: Mapping[str, Json]) -> list[str]:
    faults = []
    head_size = config.get("head_size")
    if head_size is not None and config.get("rotary_embedding_dim") not in (None, head_size):
        faults.append("`rotary_embedding_dim` is not the head size; partial rotary is unsupported")
    scaling = config.get("rotary_scaling")
    if scaling and rope_type(scaling) not in ROPE_TYPES:
        kind = rope_type(scaling)
        faults.append(f"`rotary_scaling` is of type `{kind}`; supported: {_spell(ROPE_TYPES)}")
    return faults


def graph_problems(config: Mapping[str, Json], max_seq_len: int) -> list[Problem]:
    """Why no decoder graph of `max_seq_len` positions can be written, for the stage `build`."""
    try:
        decoder = read_config(config)
    except RecipeError as error:
        return [Problem.of("build", error)]
    longest = decoder.max_position_embeddings
    if max_seq_len <= longest:
        return []
    # Dynamic NTK scaling is defined beyond this length, but only step by step (see `rotary`).
    return [
        Problem(
            "build",
            f"`engine.max_seq_len` is {max_seq_len}, but the model has {longest} positions",
            f"set `engine.max_seq_len` to at most {longest}",
        )
    ]


def rope_type(scaling: Mapping[str, Json] | None) -> str:
    """The kind of a Hugging Face `rope_scaling` dict, in its new or old (`type`) spelling."""
    if not scaling:
        return "default"
    return str(scaling.get("rope_type", scaling.get("type", "default")))


def _spell(values: tuple[Json, ...]) -> str:
    return ", ".join(f"`{value}`" for value in values if value is not None)
