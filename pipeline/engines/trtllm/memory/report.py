"""The memory of an engine as `plan` shows it, and what a build needs of the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.artifact import Json
from pipeline.engines.engine import Estimate
from pipeline.engines.trtllm.memory.layouts import Layout, first_fitting, layout_needs
from pipeline.engines.trtllm.memory.plan import MemoryPlan, fits, memory_plan, usable_bytes
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.gpus import KnownGpu, by_targets


def estimate(config: Mapping[str, Json], settings: EngineSettings) -> Estimate:
    """Host memory and disk of a build."""
    plan = memory_plan(config, settings)
    return {"memory_bytes": plan.host_bytes, "disk_bytes": plan.engine_bytes}


def memory_report(config: Mapping[str, Json], settings: EngineSettings) -> dict[str, Json]:
    """What `plan` shows: each rank's terms, and the known GPUs, those of the targets first.

    `smallest` of a GPU is the smallest layout with which it would hold the engine.
    """
    plan = memory_plan(config, settings)
    needs = list(layout_needs(config, settings, fused=plan.fused))
    return {
        **plan.document(),
        "targets": list(settings.targets),
        "gpus": [_gpu_document(gpu, plan, needs) for gpu in by_targets(settings.targets)],
    }


def _gpu_document(
    gpu: KnownGpu, plan: MemoryPlan, needs: Sequence[tuple[Layout, int]]
) -> dict[str, Json]:
    smallest = first_fitting(needs, usable_bytes(gpu))
    return {
        "name": gpu.name,
        "target": gpu.target,
        "memory_bytes": gpu.memory_bytes,
        "usable_bytes": usable_bytes(gpu),
        "sure": gpu.sure,
        "fits": fits(plan, gpu),
        "smallest": {"tp_size": smallest[0], "pp_size": smallest[1]} if smallest else None,
    }
