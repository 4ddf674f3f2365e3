"""An engine that would not fit on the GPUs that it is for is refused before any work."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.engines.trtllm.memory.advice import advice
from pipeline.engines.trtllm.memory.fallback import is_fused_on
from pipeline.engines.trtllm.memory.plan import MemoryPlan, fits, memory_plan, usable_bytes
from pipeline.engines.trtllm.memory.weights import rank_weights
from pipeline.errors import Problem, ResourceError
from pipeline.hardware import Gpu, Hardware
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.gpus import KnownGpu, find_gpu, largest_of
from pipeline.trtllm.rules import SURENESS

_RULE = "rule of this project: a rank fits on its GPU; where the terms are from: `docs/memory.md`"


def memory_problems(
    config: Mapping[str, Json], settings: EngineSettings, hardware: Hardware
) -> list[Problem]:
    """For each target on which the engine would not fit: how much it needs, of what, what helps.

    The GPU of a target is the one in this machine, else the largest that is known. A target of
    which no GPU is known is not judged.
    """
    weights, found = rank_weights(config), []
    for target in settings.targets:
        fused = is_fused_on(config, settings, target)
        plan = memory_plan(config, settings, fused=fused, weights=weights)
        gpu, where = _gpu_of(target, hardware, plan.parallelism.world_size)
        if gpu is not None and not fits(plan, gpu):
            found.append(_problem(plan, gpu, where, advice(config, settings, gpu, plan)))
    return found


def _gpu_of(target: str, hardware: Hardware, count: int) -> tuple[Gpu | KnownGpu | None, str]:
    """The GPU that the last of `count` ranks would have here, else the largest that is known.

    Memory that the driver does not tell (of a GPU that shares the host's) is that of its name.
    """
    present = [gpu for gpu in hardware.gpus if gpu.target == target]
    told = sorted((gpu for gpu in present if gpu.memory_bytes), key=lambda gpu: -gpu.memory_bytes)
    if told:
        return told[:count][-1], "in this machine"
    named = [known for known in (find_gpu(gpu.name) for gpu in present) if known is not None]
    if named:
        return named[0], "in this machine"
    return largest_of(target), f"the largest known GPU of `{target}`"


def _problem(plan: MemoryPlan, gpu: Gpu | KnownGpu, where: str, hint: str) -> Problem:
    rank, sizes = plan.fullest, plan.parallelism
    of = f" of pp rank {rank.pp_rank}" if sizes.pp_size > 1 else ""
    width = max(len(term.name) for term in rank.terms)
    facts = [
        f"{term.name.ljust(width)}  {_told_bytes(term.num_bytes).rjust(9)}  {term.formula} "
        f"({SURENESS[term.sure]})"
        for term in sorted(rank.terms, key=lambda term: -term.num_bytes)
    ]
    return Problem(
        "build",
        f"with tp {sizes.tp_size} x pp {sizes.pp_size}, a rank{of} needs "
        f"{_told_bytes(rank.num_bytes)} of GPU memory, but `{gpu.name}`, {where}, has "
        f"{_told_bytes(usable_bytes(gpu))}",
        hint=hint,
        kind=ResourceError,
        facts=(*facts, f"KV cache of one token: {rank.kv_bytes_per_token} bytes", _RULE),
    )


def _told_bytes(count: int) -> str:
    """A size as messages here tell it, in powers of 1000."""
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"
