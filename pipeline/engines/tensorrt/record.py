"""What an engine folder of the backend `tensorrt` says about its engine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifact import Json
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.child_process import Finished
from pipeline.engines.tensorrt.api import Flavour
from pipeline.engines.tensorrt.job import profile_tokens
from pipeline.recipe.schema import EngineSettings
from pipeline.redaction import redact
from pipeline.wording import counted

if TYPE_CHECKING:
    # The graph's modules import onnx.
    from pipeline.graph.facts import GraphFacts

ENGINE_NAME = "decoder.engine"
LOG_NAME = "build.log"


def engine_config(
    checkpoint: TrtllmCheckpoint,
    settings: EngineSettings,
    facts: GraphFacts,
    finished: Finished,
    tools: Mapping[str, str],
) -> dict[str, Json]:
    """What `load` and people need to know of the engine, and what TensorRT's network was."""
    context, generation = profile_tokens(checkpoint.config, settings)
    return {
        "backend": "tensorrt",
        "dtype": checkpoint.config["dtype"],
        "compute_dtype": facts.compute_dtype,
        "max_batch_size": settings.max_batch_size,
        "max_input_len": settings.max_input_len,
        "max_seq_len": settings.max_seq_len,
        "profiles": {"context_tokens": context, "generation_tokens": generation},
        "targets": list(settings.targets),
        **settings.tensorrt.model_dump(),
        "tool_versions": dict(tools),
        "checkpoint": dict(checkpoint.config),
        "weight_files": list(facts.weight_files),
        "op_counts": facts.op_counts,
        "network": {key: finished.result[key] for key in _INVENTORY},
    }


_INVENTORY = ("layers_by_kind", "attention", "dtypes", "weights")


def built_answer(
    settings: EngineSettings,
    facts: GraphFacts,
    network: Mapping[str, Json],
    kernels: Mapping[str, Json],
    flavour: Flavour,
) -> dict[str, Json]:
    """The answer of the build: a non-decomposable layer that was built is a fused one.

    Where the recipe turns fused attention off, only the engine's own list of kernels can tell.
    """
    fused = settings.attention.context_fmha
    evidence = (
        f"{flavour.title} built every attention layer as non-decomposable, which it does only "
        "where a fused kernel exists"
        if fused
        else f"the recipe turns fused attention off: the builder may decompose every layer; "
        f"{_told_by(kernels)}"
    )
    return {
        "status": "fused" if fused else _unrequired_status(kernels),
        "level": "kernel",
        "attention_sites": facts.attention_sites,
        "attention_layers": network["attention_layers"],
        "attention": network["attention"],
        "decomposable": not fused,
        "kernels": dict(kernels),
        "layers_by_kind": network["layers_by_kind"],
        "targets": list(settings.targets),
        "evidence": evidence,
    }


def _unrequired_status(kernels: Mapping[str, Json]) -> str:
    """Unfused where one layer has such a kernel; that there is none is no proof of the contrary."""
    return "unfused" if kernels["layers_unfused"] else "unknown"


def _told_by(kernels: Mapping[str, Json]) -> str:
    if not kernels["listed"]:
        return "its list of kernels could not be read"
    told = counted(kernels["layers_unfused"], "attention layer")
    return f"its list of kernels has a softmax of its own in {told}"


def reproducibility(flavour: Flavour, finished: Finished) -> dict[str, Json]:
    """Whether another build gives equal bytes, and if that is not certain, why."""
    reason = finished.why_random
    if not flavour.is_rtx:
        reason = "`tensorrt` chooses kernels by timing them on the GPU"
    return {"bytes_pinned": reason is None, "bytes_pinned_reason": reason}


def write_log(out_dir: Path, warnings: Sequence[str]) -> list[str]:
    """Keep what the builder warned of, less what differs from run to run; these lines."""
    lines = [
        redact(re.sub(r"0x[0-9a-f]+|\d+(\.\d+)? ?(ms|seconds)", "*", line)) for line in warnings
    ]
    if lines:
        (out_dir / LOG_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lines
