"""The backend `trtllm`: TensorRT-LLM 1.2.x, driven by its published interface."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.engine import Estimate, TargetSupport
from pipeline.engines.generator import Generator
from pipeline.engines.trtllm import judgement, memory
from pipeline.engines.trtllm.preflight import (
    PACKAGE,
    installed_versions,
    machine_problems,
    why_no_package,
    why_no_program,
)
from pipeline.engines.trtllm.runnable import why_not_executable
from pipeline.errors import MachineError, Problem
from pipeline.hardware import Hardware, detect
from pipeline.progress import Progress
from pipeline.recipe.schema import EngineSettings


class TrtllmEngine:
    """See `pipeline.engines.engine.Engine`."""

    name = "trtllm"
    applies_windows = False

    def why_unavailable(self, hardware: Hardware) -> str | None:
        """What is missing here: the package, its line, its program, a GPU."""
        found = installed_versions().get(PACKAGE)
        return why_no_package(found) or why_no_program() or _why_no_gpu(hardware)

    def problems(
        self, config: Mapping[str, Json], settings: EngineSettings, hardware: Hardware
    ) -> list[Problem]:
        """Rules between options, model and GPU; memory; this machine's GPUs and driver."""
        return [
            *judgement.rule_problems(config, settings),
            *memory.memory_problems(config, settings, hardware),
            *machine_problems(settings, hardware),
        ]

    def tool_versions(self) -> dict[str, str]:
        """TensorRT-LLM and its TensorRT, where they are installed."""
        return installed_versions()

    def attention_support(
        self, config: Mapping[str, Json], settings: EngineSettings
    ) -> list[TargetSupport]:
        """From the table of rules, each with its source."""
        return judgement.attention_support(config, settings)

    def notes(self, config: Mapping[str, Json], settings: EngineSettings) -> list[str]:
        """Options that have no effect, by the table of rules."""
        return judgement.notes(config, settings)

    def estimate(
        self, config: Mapping[str, Json], settings: EngineSettings, weight_bytes: int
    ) -> Estimate:
        """Host memory and disk of a build, from the memory plan."""
        return memory.estimate(config, settings)

    def memory_report(
        self, config: Mapping[str, Json], settings: EngineSettings
    ) -> dict[str, Json]:
        """Every rank's terms, and the GPUs that have room for them."""
        return memory.memory_report(config, settings)

    def build(
        self,
        checkpoint: TrtllmCheckpoint,
        settings: EngineSettings,
        out_dir: Path,
        progress: Progress,
        *,
        cache_dir: Path | None = None,
    ) -> dict[str, Json]:
        """Run `trtllm-build` and hold the engine against what was asked."""
        from pipeline.engines.trtllm.build import build_engine
        from pipeline.trtllm.table import RULES

        hardware = detect()  # once more: it may not be as it was when the build was planned
        reason = self.why_unavailable(hardware)
        if reason is not None:
            raise MachineError(f"the engine backend `{self.name}` is not usable: {reason}")
        return build_engine(
            checkpoint,
            settings,
            out_dir,
            progress,
            hardware=hardware,
            cache_dir=cache_dir,
            rules=RULES,
        )

    def why_not_runnable(
        self, settings: EngineSettings, hardware: Hardware, *, num_ranks: int = 1
    ) -> str | None:
        """Too few GPUs of the target, or no TensorRT-LLM."""
        return why_not_executable(settings, hardware, num_ranks, installed_versions())

    def open_generator(
        self, engine_dir: Path, checkpoint_dir: Path, *, timeout_s: float
    ) -> Generator:
        """Look at the engine; it holds its weights, `checkpoint_dir` is not read."""
        from pipeline.engines.trtllm.generator import open_generator

        return open_generator(engine_dir, timeout_s=timeout_s)


def _why_no_gpu(hardware: Hardware) -> str | None:
    if hardware.gpus:
        return None
    return (
        "no NVIDIA GPU is visible, which TensorRT-LLM needs to build; converting works anywhere, "
        "building needs a machine with the GPU of `engine.targets`"
    )


ENGINE = TrtllmEngine()
