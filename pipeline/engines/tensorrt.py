"""The backend `tensorrt`: the decoder graph, compiled by TensorRT with fused attention.

Attention layers are non-decomposable, so a build succeeds only where a fused kernel exists: the
build is the proof. TensorRT for RTX needs no GPU for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifact import Json, place, write_json
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.attention_proof import not_observed, proof, write_proof
from pipeline.engines.child_process import run_child
from pipeline.engines.engine import CONFIG_NAME, Estimate, TargetSupport
from pipeline.engines.generator import Generator, SessionGenerator
from pipeline.engines.tensorrt_api import find_flavour, why_no_cuda_bindings, why_no_flavour
from pipeline.engines.tensorrt_job import GRAPH_NAME, build_job
from pipeline.engines.tensorrt_record import (
    built_answer,
    engine_config,
    reproducibility,
    write_log,
)
from pipeline.engines.tensorrt_support import attention_support, fusion_problems, target_problems
from pipeline.errors import MachineError, Problem
from pipeline.graph.config import graph_problems
from pipeline.hardware import Hardware
from pipeline.progress import Progress
from pipeline.recipe.schema import EngineSettings

if TYPE_CHECKING:
    from pipeline.engines.tensorrt_session import TensorRTSession

ENGINE_NAME = "decoder.engine"
CHILD = "pipeline.engines.tensorrt_child"

_NOT_OBSERVED = "the engine was not executed while it was built"


class TensorRTEngine:
    """See `pipeline.engines.engine.Engine`."""

    name = "tensorrt"

    def why_unavailable(self) -> str | None:
        """No TensorRT that has attention layers is installed, or None."""
        return why_no_flavour()

    def problems(
        self, config: Mapping[str, Json], settings: EngineSettings, hardware: Hardware
    ) -> list[Problem]:
        """Targets, dtypes and sizes without a fused kernel; what the graph cannot express."""
        found = graph_problems(config, settings.max_seq_len)
        found += target_problems(config, settings, find_flavour(), hardware)
        return found + fusion_problems(config, settings)

    def tool_versions(self) -> dict[str, str]:
        """The TensorRT that compiles, and onnx, which writes the graph."""
        flavour = find_flavour()
        found = dict(flavour.versions) if flavour else {}
        with suppress(PackageNotFoundError):
            found["onnx"] = version("onnx")
        return found

    def attention_support(
        self, config: Mapping[str, Json], settings: EngineSettings
    ) -> list[TargetSupport]:
        """From the table of measured facts."""
        return attention_support(config, settings, find_flavour())

    def notes(self, config: Mapping[str, Json], settings: EngineSettings) -> list[str]:
        """None."""
        return []

    def estimate(
        self, config: Mapping[str, Json], settings: EngineSettings, weight_bytes: int
    ) -> Estimate:
        """Memory: three times the weights and 300 MB; one copy is mapped from the rank files.

        Disk: the weights, 6 MB, and 1 MB a layer, whatever the targets. Measured with TensorRT for
        RTX 1.7.1, 0.1 MB to 2.2 GB of weights, 3 to 24 layers.
        """
        layers = config["num_hidden_layers"]
        return {
            "memory_bytes": 3 * weight_bytes + (300 << 20),
            "disk_bytes": weight_bytes + ((6 + layers) << 20),
        }

    def memory_report(
        self, config: Mapping[str, Json], settings: EngineSettings
    ) -> dict[str, Json] | None:
        """Not known."""
        return None

    def build(
        self,
        checkpoint: TrtllmCheckpoint,
        settings: EngineSettings,
        out_dir: Path,
        progress: Progress,
        *,
        cache_dir: Path | None = None,
    ) -> dict[str, Json]:
        """Write the graph, compile it in a child process, and record the proof."""
        from pipeline.graph.decoder import write_decoder

        flavour = find_flavour()
        if flavour is None:
            raise MachineError(str(why_no_flavour()))
        with _work_folder(out_dir) as work:
            facts = write_decoder(
                checkpoint,
                work / GRAPH_NAME,
                max_seq_len=settings.max_seq_len,
                compute_dtype=checkpoint.config["dtype"],
            )
            for file in facts.weight_files:
                place(checkpoint.path / file, work / file)
            job = build_job(flavour, checkpoint.config, settings, facts)
            finished = run_child(CHILD, job, work, _Following(progress).event)
            for file in (GRAPH_NAME, ENGINE_NAME):
                (work / file).rename(out_dir / file)
        tools = self.tool_versions()
        write_json(out_dir / CONFIG_NAME, engine_config(checkpoint, settings, facts, tools))
        built = built_answer(settings, facts, finished.result, flavour)
        write_proof(out_dir, proof(settings.attention, built, not_observed(_NOT_OBSERVED)))
        for line in write_log(out_dir, finished.result["warnings"]):
            progress.note(line)
        return {
            "backend": self.name,
            "tensorrt": flavour.title,
            "targets": list(settings.targets),
            "attention": built["status"],
            "attention_sites": facts.attention_sites,
            "attention_layers": built["attention_layers"],
            "layers_by_kind": finished.result["layers_by_kind"],
            "dtypes": finished.result["dtypes"],
            "engine_bytes": (out_dir / ENGINE_NAME).stat().st_size,
            **reproducibility(flavour, finished),
        }

    def why_not_runnable(
        self, settings: EngineSettings, hardware: Hardware, *, num_ranks: int = 1
    ) -> str | None:
        """No GPU among the targets, no TensorRT, or no CUDA bindings."""
        if not hardware.targets & set(settings.targets):
            present = ", ".join(sorted(hardware.targets)) or "no NVIDIA GPU"
            return f"the engine is for {', '.join(settings.targets)}; present: {present}"
        return why_no_flavour() or why_no_cuda_bindings()

    def load(self, engine_dir: Path, checkpoint_dir: Path) -> TensorRTSession:
        """Open the engine on the first GPU; it holds its weights, `checkpoint_dir` is not read."""
        flavour = find_flavour()
        reason = why_no_flavour() or why_no_cuda_bindings()
        if flavour is None or reason is not None:
            raise MachineError(f"the engine in `{engine_dir}` cannot be executed: {reason}")
        from pipeline.engines.tensorrt_session import open_session

        return open_session(engine_dir, flavour)

    def open_generator(
        self, engine_dir: Path, checkpoint_dir: Path, *, timeout_s: float
    ) -> Generator:
        """Over `load`; it runs in this process, so that `timeout_s` ends nothing."""
        return SessionGenerator(self.load(engine_dir, checkpoint_dir))


@contextmanager
def _work_folder(out_dir: Path) -> Iterator[Path]:
    """Where graph and rank files lie side by side while they are parsed; gone afterwards."""
    work = out_dir / ".build"
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work)


class _Following:
    """Turns the child's events into progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def event(self, event: dict[str, Any]) -> None:
        """One event of the builder's monitor."""
        if event["event"] == "phase":
            self._progress.start(event["name"], event["total"], "steps")
        elif event["event"] == "step":
            self._progress.advance(1)


ENGINE = TensorRTEngine()
