"""What to change so that an engine fits on a GPU: attention, limits, layout, or the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.artifact import Json
from pipeline.engines.trtllm.memory.fallback import is_fused_on
from pipeline.engines.trtllm.memory.layouts import smallest_layout
from pipeline.engines.trtllm.memory.plan import MemoryPlan, fits, memory_plan, usable_bytes
from pipeline.engines.trtllm.memory.terms import cached_tokens, limits_of
from pipeline.engines.trtllm.memory.weights import rank_weights
from pipeline.hardware import Gpu
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.gpus import KNOWN_GPUS, KnownGpu, gpus_of


def advice(
    config: Mapping[str, Json],
    settings: EngineSettings,
    gpu: Gpu | KnownGpu,
    plan: MemoryPlan,
) -> str:
    """Every change that alone makes it fit: attention, a lower limit, more GPUs, another GPU."""
    room = _Room(config, rank_weights(config), usable_bytes(gpu), plan.fused)
    ways = [*_attention_ways(room, settings, gpu.target), *_limit_ways(room, settings)]
    layout = smallest_layout(config, settings, gpu, fused=plan.fused)
    if layout is not None:
        asked = {"tp_size": plan.parallelism.tp_size, "pp_size": plan.parallelism.pp_size}
        sizes = dict(zip(asked, layout, strict=True))
        changed = [f"`checkpoint.{key}: {sizes[key]}`" for key in asked if sizes[key] != asked[key]]
        ways.append(f"set {' and '.join(changed)}")
    other = _holding_gpu(plan, gpu.target)
    if other is not None:
        ways.append(f"use a `{other.name}` (`{other.target}`)")
    if not ways:
        return "no known GPU holds it in up to 8 x 8 ranks: use a smaller model or lower the limits"
    return ", or ".join(ways)


@dataclass(frozen=True, slots=True)
class _Room:
    """What one rank of a checkpoint may take of a GPU."""

    config: Mapping[str, Json]
    weights: tuple[int, ...]
    num_bytes: int
    fused: bool

    def has(self, settings: EngineSettings) -> bool:
        """Whether an engine with these settings has room."""
        plan = memory_plan(self.config, settings, fused=self.fused, weights=self.weights)
        return plan.fullest.num_bytes <= self.num_bytes

    def largest(self, settings: EngineSettings, key: str, low: int) -> int | None:
        """The largest value of a limit, of `low` and above, that has room; None where none has."""
        high: int = getattr(settings, key)
        if low >= high or not self.has(settings.model_copy(update={key: low})):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if self.has(settings.model_copy(update={key: middle})):
                low = middle
            else:
                high = middle
        return low


def _attention_ways(room: _Room, settings: EngineSettings, target: str) -> list[str]:
    """Fused attention needs no scores of all pairs of tokens."""
    asked = settings.attention.model_copy(update={"context_fmha": True})
    changed = settings.model_copy(update={"attention": asked})
    if settings.attention.context_fmha or not is_fused_on(room.config, changed, target):
        return []
    has_room = replace(room, fused=True).has(changed)
    return ["set `engine.attention.context_fmha: true`"] if has_room else []


def _limit_ways(room: _Room, settings: EngineSettings) -> list[str]:
    """Each limit that makes it fit by itself, with the largest value that does; else two."""
    least = {"max_batch_size": 1, "max_seq_len": settings.max_input_len + 1}
    if settings.max_num_tokens is not None:
        least["max_num_tokens"] = max(settings.max_input_len, settings.tokens_per_block)
    found = {key: room.largest(settings, key, low) for key, low in least.items()}
    ways = [f"lower `engine.{key}` to {value}" for key, value in found.items() if value]
    ways += _cache_ways(room, settings)
    if ways:
        return ways
    single = settings.model_copy(update={"max_batch_size": 1})
    length = room.largest(single, "max_seq_len", least["max_seq_len"])
    if length is None:
        return []
    return [f"lower `engine.max_batch_size` to 1 and `engine.max_seq_len` to {length}"]


def _cache_ways(room: _Room, settings: EngineSettings) -> list[str]:
    """Less cache than for all sequences at full length, as long as one of them has room."""
    if settings.kv_cache_type != "paged" or settings.kv_cache_tokens is not None:
        return []
    limits = limits_of(settings)
    asked = settings.model_copy(update={"kv_cache_tokens": cached_tokens(settings, limits)})
    least = limits.seq_len * settings.max_beam_width
    tokens = room.largest(asked, "kv_cache_tokens", least)
    if tokens is None:
        return []
    return [f"set `engine.kv_cache_tokens: {tokens}` if not all sequences are long at once"]


def _holding_gpu(plan: MemoryPlan, target: str) -> KnownGpu | None:
    """The smallest known GPU that holds the engine as asked, of the same target if one does."""
    for candidates in (gpus_of(target), KNOWN_GPUS):
        holding = [known for known in candidates if fits(plan, known) and not known.is_shared]
        if holding:
            return min(holding, key=lambda known: known.memory_mib)
    return None
