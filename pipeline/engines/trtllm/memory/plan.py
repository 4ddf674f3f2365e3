"""The memory of an engine on each of its ranks, and whether a GPU has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pipeline.artifact import Json
from pipeline.engines.trtllm.memory.fallback import is_fused_everywhere
from pipeline.engines.trtllm.memory.rank import RankMemory, rank_memory, shared_terms
from pipeline.engines.trtllm.memory.runtime import MIB
from pipeline.engines.trtllm.memory.terms import limits_of
from pipeline.engines.trtllm.memory.weights import rank_weights
from pipeline.hardware import Gpu
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.gpus import KnownGpu
from pipeline.weights.parallel import Parallelism, parallelism_of

DRIVER_BYTES = 720 * MIB
"""What `nvidia-smi` prints and CUDA does not see: 561 MiB of an H100 (memory.md), 654 of an A40,
717 of a B200, as users report."""
ENGINE_BYTES_BESIDE_WEIGHTS = 64 * MIB
"""Kernels and plan of a rank's engine file, inferred; memory.md: its size is near the weights'."""
TIMING_CACHE_BYTES = 32 * MIB
BUILDER_BYTES = 4096 * MIB
"""Host memory of one builder beside the weights: Python, torch and TensorRT's builder library (2061
MiB in the log of NVIDIA/TensorRT-LLM issue 538)."""
COPIES_IN_BUILDER = 2
"""Weights as read, and the engine that is made of them (inferred)."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The memory of an engine. `ranks`: one for each pp rank, its tp and cp ranks are alike.

    `engine_bytes`: all engine files with managed weights and timing cache, on disk. `host_bytes`:
    host memory of the build.
    """

    parallelism: Parallelism
    ranks: tuple[RankMemory, ...]
    fused: bool
    engine_bytes: int
    host_bytes: int

    @property
    def fullest(self) -> RankMemory:
        """The rank that needs the most."""
        return max(self.ranks, key=lambda rank: rank.num_bytes)

    def document(self) -> dict[str, Json]:
        """The plan as JSON."""
        ranks = [{**asdict(rank), "total_bytes": rank.num_bytes} for rank in self.ranks]
        for rank in ranks:
            rank["terms"] = list(rank["terms"])
        return {
            "tp_size": self.parallelism.tp_size,
            "pp_size": self.parallelism.pp_size,
            "cp_size": self.parallelism.cp_size,
            "fused": self.fused,
            "ranks": ranks,
            "engine_bytes": self.engine_bytes,
            "host_memory_bytes": self.host_bytes,
            "driver_bytes": DRIVER_BYTES,
        }


def memory_plan(
    config: Mapping[str, Json],
    settings: EngineSettings,
    *,
    fused: bool | None = None,
    weights: Sequence[int] | None = None,
) -> MemoryPlan:
    """The memory of an engine of a checkpoint's config.json at the asked limits.

    `fused`: whether context attention is; None: as on that target where it needs the most.
    `weights`: bytes on each pp rank, where they are known already (`rank_weights`).
    Raises ValueError for a layout that the model does not allow.
    """
    if fused is None:
        fused = is_fused_everywhere(config, settings)
    found = tuple(rank_weights(config) if weights is None else weights)
    parallelism, limits = parallelism_of(config), limits_of(settings)
    shared = shared_terms(config, settings, limits, fused)
    ranks = [
        rank_memory(config, settings, limits, pp_rank, size, shared)
        for pp_rank, size in enumerate(found)
    ]
    return MemoryPlan(
        parallelism,
        tuple(ranks),
        fused,
        _engine_bytes(found, parallelism, settings),
        _host_bytes(found, parallelism, settings),
    )


def _engine_bytes(
    weights: Sequence[int], parallelism: Parallelism, settings: EngineSettings
) -> int:
    """Disk: every rank's engine, with its weights unless they are stripped; one timing cache."""
    copies = 0 if settings.use_strip_plan else parallelism.tp_size * parallelism.cp_size
    beside = ENGINE_BYTES_BESIDE_WEIGHTS * parallelism.world_size + TIMING_CACHE_BYTES
    return copies * sum(weights) + beside


def _host_bytes(weights: Sequence[int], parallelism: Parallelism, settings: EngineSettings) -> int:
    """Host memory: each of the ranks that are built at the same time needs its weights twice."""
    workers = min(settings.workers, parallelism.world_size)
    return workers * (COPIES_IN_BUILDER * max(weights) + BUILDER_BYTES)


def usable_bytes(gpu: Gpu | KnownGpu) -> int:
    """What CUDA can have of a GPU's memory."""
    return max(0, gpu.memory_bytes - DRIVER_BYTES)


def fits(plan: MemoryPlan, gpu: Gpu | KnownGpu) -> bool:
    """Whether every rank has what it needs, each on a GPU of this kind."""
    return plan.fullest.num_bytes <= usable_bytes(gpu)
