"""The backend `tensorrt`: the decoder graph, compiled by TensorRT with fused attention.

Attention layers are non-decomposable, so a build succeeds only where a fused kernel exists: the
build is the proof. TensorRT for RTX needs no GPU for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.engine import Estimate, TargetSupport
from pipeline.engines.generation import Session
from pipeline.engines.generator import Generator
from pipeline.engines.long_rotary import with_long_rotary
from pipeline.engines.tensorrt.api import find_flavour, why_no_cuda_bindings, why_no_flavour
from pipeline.engines.tensorrt.limits import read_limits
from pipeline.engines.tensorrt.problems import (
    fusion_problems,
    option_problems,
    target_problems,
)
from pipeline.engines.tensorrt.support import attention_support, ways
from pipeline.errors import MachineError, Problem
from pipeline.graph.config import graph_problems
from pipeline.hardware import Hardware
from pipeline.installed import installed
from pipeline.progress import Progress
from pipeline.recipe.schema import EngineSettings


class TensorRTEngine:
    """See `pipeline.engines.engine.Engine`."""

    name = "tensorrt"
    applies_windows = True

    def why_unavailable(self, hardware: Hardware) -> str | None:
        """No TensorRT that has attention layers is installed, or None."""
        return why_no_flavour()

    def problems(
        self, config: Mapping[str, Json], settings: EngineSettings, hardware: Hardware
    ) -> list[Problem]:
        """Targets, dtypes and sizes without a fused kernel; what the graph cannot express."""
        found = graph_problems(config, settings.max_seq_len)
        found += target_problems(config, settings, find_flavour(), hardware)
        found += option_problems(settings, find_flavour(), hardware)
        return found + fusion_problems(config, settings)

    def tool_versions(self) -> dict[str, str]:
        """The TensorRT that compiles, and onnx, which writes the graph."""
        flavour = find_flavour()
        return {**(dict(flavour.versions) if flavour else {}), **installed(["onnx"])}

    def attention_support(
        self, config: Mapping[str, Json], settings: EngineSettings
    ) -> list[TargetSupport]:
        """From the table of measured facts."""
        return attention_support(config, settings, find_flavour())

    def notes(self, config: Mapping[str, Json], settings: EngineSettings) -> list[str]:
        """By which way soft-capping, experts and the like are said, and what stays fused."""
        return ways(config, settings)

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
        flavour = find_flavour()
        if flavour is None:
            raise MachineError(str(why_no_flavour()))
        from pipeline.engines.tensorrt.build import build_engine

        tools = self.tool_versions()
        return build_engine(flavour, tools, checkpoint, settings, out_dir, progress)

    def why_not_runnable(
        self, settings: EngineSettings, hardware: Hardware, *, num_ranks: int = 1
    ) -> str | None:
        """No GPU among the targets, no TensorRT, or no CUDA bindings."""
        if not hardware.targets & set(settings.targets):
            present = ", ".join(sorted(hardware.targets)) or "no NVIDIA GPU"
            return f"the engine is for {', '.join(settings.targets)}; present: {present}"
        return why_no_flavour() or why_no_cuda_bindings()

    def load(self, engine_dir: Path, checkpoint_dir: Path) -> Session:
        """Open the engine on the first GPU; `checkpoint_dir` has the weights that it lacks."""
        flavour = find_flavour()
        reason = why_no_flavour() or why_no_cuda_bindings()
        if flavour is None or reason is not None:
            raise MachineError(f"the engine in `{engine_dir}` cannot be executed: {reason}")
        from pipeline.engines.tensorrt.session import open_session

        session = open_session(engine_dir, checkpoint_dir, flavour)
        return with_long_rotary(session, read_limits(engine_dir).checkpoint)

    def open_generator(
        self, engine_dir: Path, checkpoint_dir: Path, *, timeout_s: float
    ) -> Generator:
        """Over `load`; it runs in this process, so that `timeout_s` ends nothing."""
        from pipeline.engines.traced_generator import TracedGenerator

        return TracedGenerator(self.load(engine_dir, checkpoint_dir))


ENGINE = TensorRTEngine()
