"""The backend `tensorrt`: the decoder graph, compiled by TensorRT with fused attention.

Attention layers are non-decomposable, so a build succeeds only where a fused kernel exists: the
build is the proof. TensorRT for RTX needs no GPU for it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifact import Json, place, write_json
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.child_process import run_child
from pipeline.engines.engine import CONFIG_NAME, Estimate, TargetSupport
from pipeline.engines.generation import Session
from pipeline.engines.tensorrt_api import INSTALL_HINT, Flavour, find_flavour
from pipeline.engines.tensorrt_support import (
    attention_support,
    fusion_problems,
    target_problems,
)
from pipeline.errors import MachineError, Problem
from pipeline.graph.config import graph_problems
from pipeline.hardware import Hardware
from pipeline.progress import Progress
from pipeline.recipe.schema import EngineSettings

if TYPE_CHECKING:
    from pipeline.graph.facts import GraphFacts, Port

GRAPH_NAME = "decoder.onnx"
ENGINE_NAME = "decoder.engine"
_NOT_OBSERVED = "no NVIDIA GPU executed this engine"


class TensorRTEngine:
    """See `pipeline.engines.engine.Engine`."""

    name = "tensorrt"

    def why_unavailable(self) -> str | None:
        """No TensorRT is installed, or None."""
        if find_flavour() is not None:
            return None
        return (
            f"neither `tensorrt` 10.14 or later nor TensorRT for RTX is installed; {INSTALL_HINT}"
        )

    def problems(
        self, config: Mapping[str, Json], settings: EngineSettings, hardware: Hardware
    ) -> list[Problem]:
        """Targets, dtypes and head sizes without a fused kernel; what the graph cannot express."""
        flavour = find_flavour()
        found = graph_problems(config, settings.max_seq_len)
        found += target_problems(settings, flavour, hardware) if flavour else []
        return found + fusion_problems(config, settings)

    def tool_versions(self) -> dict[str, str]:
        """The TensorRT that compiles, and onnx, which writes the graph."""
        flavour = find_flavour()
        return {"onnx": version("onnx"), **dict(flavour.versions if flavour else ())}

    def attention_support(
        self, config: Mapping[str, Json], settings: EngineSettings
    ) -> list[TargetSupport]:
        """From the table of measured facts."""
        return attention_support(config, settings, find_flavour())

    def estimate(
        self, config: Mapping[str, Json], settings: EngineSettings, weight_bytes: int
    ) -> Estimate:
        """Host memory: three times the weights and 600 MB, as measured with 0.2 to 1.1 B models."""
        return {
            "memory_bytes": 3 * weight_bytes + (600 << 20),
            "disk_bytes": weight_bytes + weight_bytes // 50 + len(settings.targets) * (2 << 20),
        }

    def build(
        self,
        checkpoint: TrtllmCheckpoint,
        settings: EngineSettings,
        out_dir: Path,
        progress: Progress,
    ) -> dict[str, Json]:
        """Write the graph, compile it in a child process, and record the proof."""
        from pipeline.graph.decoder import write_decoder

        flavour = find_flavour()
        if flavour is None:
            raise MachineError("TensorRT is not installed", hint=INSTALL_HINT)
        # Rank files must lie beside the graph while it is parsed, and only then.
        with tempfile.TemporaryDirectory(dir=out_dir, prefix=".build-") as name:
            work = Path(name)
            facts = write_decoder(
                checkpoint,
                work / GRAPH_NAME,
                max_seq_len=settings.max_seq_len,
                compute_dtype=checkpoint.config["dtype"],
            )
            for file in facts.weight_files:
                place(checkpoint.path / file, work / file)
            job = _job(flavour, settings, facts)
            finished = run_child(
                "pipeline.engines.tensorrt_child", job, work, _Following(progress).event
            )
            for file in (GRAPH_NAME, ENGINE_NAME):
                (work / file).rename(out_dir / file)
        config = _engine_config(checkpoint, settings, facts, self.tool_versions())
        write_json(out_dir / CONFIG_NAME, config)
        proof = _proof(settings, facts, finished.result, flavour)
        write_json(out_dir / "attention.json", proof)
        return {
            "backend": self.name,
            "tensorrt": flavour.title,
            "targets": list(settings.targets),
            "attention": proof["built"]["status"],
            "attention_sites": facts.attention_sites,
            "attention_layers": finished.result["attention_layers"],
            "engine_bytes": (out_dir / ENGINE_NAME).stat().st_size,
            "bytes_pinned": finished.fixed_addresses and flavour.is_rtx,
        }

    def why_not_runnable(self, settings: EngineSettings, hardware: Hardware) -> str | None:
        """No GPU among the targets is present."""
        if hardware.targets & set(settings.targets):
            return "executing TensorRT engines is not part of this version"
        present = ", ".join(sorted(hardware.targets)) or "no NVIDIA GPU"
        return f"the engine is for {', '.join(settings.targets)}; present: {present}"

    def load(self, engine_dir: Path, checkpoint_dir: Path) -> Session:
        """Not in this version."""
        raise MachineError(
            f"the engine in `{engine_dir}` cannot be executed: executing TensorRT engines is not "
            "part of this version",
            hint="the smoke test executes the same graph on ONNX Runtime",
        )


class _Following:
    """Turns the child's events into progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def event(self, event: dict[str, Any]) -> None:
        """One event of the builder's monitor."""
        if event.get("event") == "phase":
            self._progress.start(event["name"], event["total"], "steps")
        elif event.get("event") == "step":
            self._progress.advance(1)


def _job(flavour: Flavour, settings: EngineSettings, facts: GraphFacts) -> dict[str, Json]:
    batch = settings.max_batch_size
    return {
        "is_rtx": flavour.is_rtx,
        "versions": [list(pair) for pair in flavour.versions],
        "modules": list(flavour.modules),
        "graph": GRAPH_NAME,
        "inputs": [port.name for port in facts.inputs],
        "attention_sites": facts.attention_sites,
        "decomposable": not settings.attention.context_fmha,
        "targets": list(settings.targets),
        "profiles": [
            {port.name: _shapes(port, batch, length) for port in facts.inputs}
            for length in (settings.max_input_len, 1)
        ],
    }


def _shapes(port: Port, batch: int, length: int) -> list[list[int]]:
    """Least, best and largest shape of an input; the context profile is tuned for its limits."""
    sizes = ({"batch": 1, "seq": 1}, {"batch": batch, "seq": length})

    def shape(size: Mapping[str, int]) -> list[int]:
        return [size[dim] if isinstance(dim, str) else dim for dim in port.dims]

    return [shape(sizes[0]), shape(sizes[1]), shape(sizes[1])]


def _engine_config(
    checkpoint: TrtllmCheckpoint,
    settings: EngineSettings,
    facts: GraphFacts,
    tools: Mapping[str, str],
) -> dict[str, Json]:
    return {
        "backend": "tensorrt",
        "dtype": checkpoint.config["dtype"],
        "compute_dtype": facts.compute_dtype,
        "max_batch_size": settings.max_batch_size,
        "max_input_len": settings.max_input_len,
        "max_seq_len": settings.max_seq_len,
        "targets": list(settings.targets),
        "tool_versions": dict(tools),
        "checkpoint": dict(checkpoint.config),
        "weight_files": list(facts.weight_files),
        "op_counts": facts.op_counts,
    }


def _proof(
    settings: EngineSettings, facts: GraphFacts, built: Mapping[str, Json], flavour: Flavour
) -> dict[str, Json]:
    fused = settings.attention.context_fmha
    return {
        "requested": settings.attention.model_dump(),
        "built": {
            "status": "fused" if fused else "unknown",
            "attention_sites": facts.attention_sites,
            "attention_layers": built["attention_layers"],
            "decomposable": not fused,
            "layers_by_kind": built["layers_by_kind"],
            "targets": list(settings.targets),
            "evidence": f"{flavour.title} built every attention layer as non-decomposable, which "
            "it does only where a fused kernel exists"
            if fused
            else "the recipe allows attention to be decomposed",
        },
        "observed": {"status": "not observed", "reason": _NOT_OBSERVED},
    }


ENGINE = TensorRTEngine()
