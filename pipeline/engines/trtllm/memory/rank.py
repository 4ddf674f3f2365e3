"""The terms of one rank of an engine, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.checkpoint.safetensors_file import ITEM_BYTES
from pipeline.engines.trtllm.memory.runtime import (
    attention_workspace,
    rope_table,
    runtime_terms,
)
from pipeline.engines.trtllm.memory.terms import (
    Limits,
    Term,
    cached_tokens,
    kv_bytes_per_token,
    values_per_token,
)
from pipeline.recipe.schema import EngineSettings
from pipeline.weights.parallel import parallelism_of

CACHE_SHARE = 9
"""The runtime gives the KV cache 90% of the free memory (1.2, executor.h, kDefaultGpuMemFraction):
a ninth of it must be free beside it."""
MARGIN = 20
"""One part in so many of all that is inferred is kept free."""


@dataclass(frozen=True, slots=True)
class RankMemory:
    """What the ranks of one pp rank need on their GPUs, each of them all of it."""

    pp_rank: int
    kv_bytes_per_token: int
    terms: tuple[Term, ...]

    @property
    def num_bytes(self) -> int:
        """All terms together."""
        return sum(term.num_bytes for term in self.terms)

    def size_of(self, name: str) -> int:
        """Bytes of a term by its name, 0 where it has none."""
        return sum(term.num_bytes for term in self.terms if term.name == name)


def rank_memory(
    config: Mapping[str, Json],
    settings: EngineSettings,
    limits: Limits,
    pp_rank: int,
    weights: int,
    shared: Sequence[Term],
) -> RankMemory:
    """The ranks of a pp rank with so many bytes of weights; `shared` are every rank's terms."""
    parallelism = parallelism_of(config)
    num_layers = len(parallelism.layers(pp_rank, config["num_hidden_layers"]))
    is_last = pp_rank == parallelism.pp_size - 1
    per_token = kv_bytes_per_token(config, pp_rank)
    terms = [
        _weights(weights, num_layers, settings),
        _cache(per_token, settings, limits),
        *shared,
        *_last_terms(config, limits, is_last),
        *runtime_terms(config, settings, limits, is_last),
    ]
    return RankMemory(pp_rank, per_token, (*terms, _margin(terms)))


def _weights(size: int, num_layers: int, settings: EngineSettings) -> Term:
    """Weights of a rank, in full unless they are streamed from the host.

    `fast_build` puts them beside the engine file, not elsewhere on the GPU.
    """
    if not settings.weight_streaming:
        words = "all tensors of the rank file; a tied head once where it is on the embedding's rank"
        return Term("weights", size, words, "1.x")
    words = "streamed: two layers' worth at a time, if the runtime's `gpu_weights_percent` is 0"
    return Term("weights", min(size, 2 * size // max(1, num_layers)), words, "inferred")


def _cache(per_token: int, settings: EngineSettings, limits: Limits) -> Term:
    """The KV cache at the asked limits."""
    words = (
        "bytes per token x max_batch_size x max_beam_width x max_seq_len, in whole pages of "
        "tokens_per_block"
    )
    if settings.kv_cache_tokens is not None:
        words = "bytes per token x kv_cache_tokens, in whole pages of tokens_per_block"
    return Term("KV cache", per_token * cached_tokens(settings, limits), words, "1.2")


def shared_terms(
    config: Mapping[str, Json], settings: EngineSettings, limits: Limits, fused: bool
) -> list[Term]:
    """What every pp rank has alike."""
    size = limits.num_tokens * values_per_token(config) * ITEM_BYTES[config["dtype"]]
    words = (
        "max_num_tokens x (2 x hidden_size + the widest of attention, MLP and experts on a rank) "
        "x bytes"
    )
    terms = [
        Term("activations", size, words, "inferred"),
        attention_workspace(config, settings, limits, fused),
    ]
    table = rope_table(config)
    return terms if table is None else [*terms, table]


def _last_terms(config: Mapping[str, Json], limits: Limits, is_last: bool) -> list[Term]:
    """The head's logits inside the engine, on the last pp rank."""
    if not is_last:
        return []
    rows = -(-config["vocab_size"] // parallelism_of(config).tp_size)
    size = limits.rows * rows * ITEM_BYTES[config["dtype"]]
    words = (
        "tokens whose logits are kept x vocabulary / tp_size x bytes: one token of each sequence, "
        "all of a step with gather_context_logits"
    )
    return [Term("logits", size, words, "inferred")]


def _margin(terms: Sequence[Term]) -> Term:
    """What must stay free: the runtime's share, and a part of what is only inferred."""
    inferred = sum(term.num_bytes for term in terms if term.sure == "inferred")
    cache = sum(term.num_bytes for term in terms if term.name == "KV cache")
    words = "KV cache / 9, as the runtime takes 90% of the free memory; 5% of all that is inferred"
    return Term("margin", cache // CACHE_SHARE + inferred // MARGIN, words, "inferred")
