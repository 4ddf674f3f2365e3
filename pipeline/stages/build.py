"""Build: the engine folder, made by the recipe's backend, with its attention proof."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Json, check_digests
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines.attention_proof import check_proof, read_proof
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.stages.stage import Inputs, Stage

TUNED_BY = ("tensorrt", "tensorrt-cu13")
"""Builders that choose kernels by timing them on the GPU that is present."""

DECIDES_NO_ENGINE = frozenset({"workers", "build_timeout_s", "use_timing_cache", "kv_cache_tokens"})
"""Keys of `engine` that say how a build goes, or what a plan holds it against, and nothing else."""


def settings(plan: Plan) -> Json:
    """The engine section, and what else decides the engine's bytes: tools, GPU, its driver."""
    engine = plan.recipe.engine
    found = {
        "engine": engine.model_dump(mode="json", exclude=set(DECIDES_NO_ENGINE)),
        "tools": dict(plan.build_tools),
        "gpus": _tuned_on(plan),
    }
    if engine.backend == "trtllm":
        gpus = [gpu for gpu in plan.hardware.gpus if gpu.target in engine.targets]
        found["drivers"] = sorted({gpu.driver for gpu in gpus})
    return found


def _tuned_on(plan: Plan) -> list[str]:
    """Names of the GPUs on which the builder times kernels; none where it times none."""
    gpus, engine = plan.hardware.gpus, plan.recipe.engine
    if engine.backend == "trtllm":
        # It builds on those of the target; others in the machine change nothing.
        return sorted({gpu.name for gpu in gpus if gpu.target in engine.targets})
    # An engine of ONNX Runtime tells in its proof which kernels its GPU ran.
    is_tuned = any(name in plan.build_tools for name in TUNED_BY) or engine.device == "cuda"
    return sorted({gpu.name for gpu in gpus}) if is_tuned else []


def run(plan: Plan, inputs: Inputs, out_dir: Path, progress: Progress) -> Mapping[str, Json]:
    """Build, and hold the proof against what the recipe requires. Raises VerificationError.

    The rank files are read whole before: a byte that changed in the store since they were verified
    would be in the engine, and nothing later would tell.
    """
    check_digests(inputs["convert"])
    checkpoint = open_trtllm_checkpoint(inputs["convert"].path)
    settings, cache_dir = plan.recipe.engine, plan.cache_dir
    facts = plan.engine.build(checkpoint, settings, out_dir, progress, cache_dir=cache_dir)
    check_proof(read_proof(out_dir), plan.recipe.engine.attention)
    return facts


def summary(facts: Mapping[str, Json]) -> str:
    """For example `tensorrt for sm80, sm89: 4 attention layers fused, 2,301,444 bytes`."""
    targets = f" for {', '.join(facts['targets'])}" if "targets" in facts else ""
    ranks = f" in {facts['world_size']} ranks" if facts.get("world_size", 1) > 1 else ""
    size = f", {facts['engine_bytes']:,} bytes{ranks}" if "engine_bytes" in facts else ""
    return (
        f"{facts['backend']}{targets}: {facts['attention_sites']} attention layers "
        f"{facts['attention']}{size}"
    )


STAGE = Stage(
    name="build", version=3, inputs=("convert",), settings=settings, run=run, summary=summary
)
