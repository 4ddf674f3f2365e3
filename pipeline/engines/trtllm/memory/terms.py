"""What an engine must hold for its limits: the KV cache, and activations of a layer.

What TensorRT makes of a graph's activations cannot be read anywhere: TensorRT-LLM's memory.md says
that they are a constant times the tokens of a step. The constant here was held against logs that
users published, which the tests name: it gives what is there, or up to a fifth more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.checkpoint.safetensors_file import ITEM_BYTES
from pipeline.engines.trtllm.memory.weights import kv_heads_by_layer
from pipeline.recipe.engine_rules import default_num_tokens
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.rules import Sureness
from pipeline.weights.parallel import parallelism_of

_CACHE_SIXTEENTHS = {"FP8": 16, "INT8": 16, "NVFP4": 9}
"""Bytes of a cached value, in sixteenths; NVFP4 has an FP8 scale for sixteen values."""


@dataclass(frozen=True, slots=True)
class Term:
    """One part of the memory of a rank, in bytes; `formula` says it in words."""

    name: str
    num_bytes: int
    formula: str
    sure: Sureness


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine must take at once, by its settings.

    `sequences` counts beams. `rows`: tokens of one step whose logits are made, `generated`: those
    of them that a generation step has. The changes that TensorRT-LLM makes to limits are in it
    (1.2, `builder.py`, `_common.py`).
    """

    sequences: int
    seq_len: int
    input_len: int
    num_tokens: int
    rows: int
    generated: int


def limits_of(settings: EngineSettings) -> Limits:
    """The limits of an engine."""
    batch, steps = settings.max_batch_size, settings.max_draft_len + 1
    sequences, seq_len = batch * settings.max_beam_width, settings.max_seq_len + steps - 1
    if settings.remove_input_padding:
        asked = settings.max_num_tokens or default_num_tokens(settings)
        is_fused = settings.attention.context_fmha
        least = settings.tokens_per_block if is_fused else settings.max_input_len
        num_tokens = max(min(asked, seq_len * batch), least, batch * steps)
    else:
        num_tokens = batch * settings.max_input_len
    generated = sequences * steps
    rows = max(generated, num_tokens) if settings.gather_context_logits else generated
    return Limits(sequences, seq_len, settings.max_input_len, num_tokens, rows, generated)


def kv_bytes_per_token(config: Mapping[str, Json], pp_rank: int) -> int:
    """Bytes that the cache of a rank holds of one token of one sequence.

    2 x layers x K/V heads of the rank x head_size x bytes of the cache's dtype; a K/V head is on
    every rank where there are fewer of them than ranks. MLA: layers x (kv_lora_rank +
    qk_rope_head_dim) on every tp rank. A sliding window changes nothing: the runtime must be told.
    Source: TensorRT-LLM 1.2, kvCacheManager.h, calculateCacheSizePerTokenForSingleWindowSize.
    """
    parallelism = parallelism_of(config)
    held = parallelism.layers(pp_rank, config["num_hidden_layers"])
    if config.get("kv_lora_rank"):
        values = len(held) * (config["kv_lora_rank"] + config["qk_rope_head_dim"])
    else:
        heads = kv_heads_by_layer(config)
        local = sum(-(-heads[layer] // parallelism.tp_size) for layer in held)
        values = 2 * local * config["head_size"]
    cache = str((config.get("quantization") or {}).get("kv_cache_quant_algo"))
    sixteenths = _CACHE_SIXTEENTHS.get(cache, 16 * ITEM_BYTES[config["dtype"]])
    return int(values * sixteenths // 16)


def cached_tokens(settings: EngineSettings, limits: Limits) -> int:
    """Tokens that the cache must hold at the asked limits; whole pages for each sequence.

    `kv_cache_tokens` may ask for fewer than all sequences at full length.
    """
    if settings.kv_cache_type == "disabled":
        return 0
    page = settings.tokens_per_block if settings.kv_cache_type == "paged" else 1
    copies = 1 if settings.gpt_attention_plugin is not None else 2
    every = copies * limits.sequences * -(-limits.seq_len // page) * page
    if settings.kv_cache_tokens is None:
        return every
    return min(every, -(-settings.kv_cache_tokens // page) * page)


def values_per_token(config: Mapping[str, Json]) -> int:
    """Values of activations that one token needs at the widest place of a layer, on one rank.

    The residual and the normed hidden state, and of an MLP gate, up and their product; of a
    mixture, these for each of `top_k` experts beside the gathered hidden state; of attention
    Q, K, V and what comes out. Inferred: TensorRT reuses memory between layers (memory.md).
    """
    parallelism, hidden = parallelism_of(config), config["hidden_size"]
    tp_size = parallelism.tp_size
    heads = -(-config["num_attention_heads"] // tp_size) * config["head_size"]
    kv_heads = -(-max(kv_heads_by_layer(config)) // tp_size) * config["head_size"]
    attention = 2 * heads + 2 * kv_heads
    mlp = 3 * -(-_widest_mlp(config) // tp_size)
    experts = _expert_values(config, parallelism.moe_tp_size, tp_size)
    return int(2 * hidden + max(attention, mlp, experts))


def _widest_mlp(config: Mapping[str, Json]) -> int:
    """The largest `intermediate_size`; DeciLM has one in each layer."""
    usual: int = config["intermediate_size"]
    layers = config.get("layer_configs") or ()
    return max([layer["ffn"].get("intermediate_size") or 0 for layer in layers] + [usual])


def _expert_values(config: Mapping[str, Json], moe_tp_size: int, tp_size: int) -> int:
    """Values per token of a layer of experts; the worst case has all its experts on one rank."""
    experts = config.get("moe") or {}
    if not experts.get("num_experts"):
        return 0
    named = [config.get("moe_intermediate_size"), config.get("moe_inter_size")]
    inter = -(-next((size for size in named if size), config["intermediate_size"]) // moe_tp_size)
    shared = experts.get("shared_expert_intermediate_size") or config.get(
        "moe_shared_expert_intermediate_size", 0
    )
    hidden, top_k = config["hidden_size"], experts.get("top_k") or 1
    routed = max(hidden, inter) + max(2 * inter, hidden)
    return int(top_k * routed + 3 * -(-(shared or 0) // tp_size))
