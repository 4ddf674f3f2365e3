"""What an engine backend offers: it explains itself, builds, and loads what it built.

A backend is one module with an `ENGINE` constant. It imports on any machine: the packages that it
drives are imported only by `build` and `open_generator`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypedDict

from pipeline.artifact import Json
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.generator import Generator
from pipeline.errors import Problem
from pipeline.hardware import Hardware
from pipeline.progress import Progress
from pipeline.recipe.schema import EngineSettings

CONFIG_NAME = "engine.json"
"""In every engine folder: backend, dtype, limits, targets, tools and model facts, to load it.

Not `config.json`, which is TensorRT-LLM's own in an engine folder of its."""


class Estimate(TypedDict):
    """What a build needs: peak host memory and disk, in bytes."""

    memory_bytes: int
    disk_bytes: int


class TargetSupport(TypedDict):
    """Whether attention is fused on one target: True, False, or None where nobody knows."""

    target: str
    fused: bool | None
    reason: str


class Engine(Protocol):
    """One engine backend. `config` is always the `config.json` of a TensorRT-LLM checkpoint."""

    name: str
    applies_windows: bool
    """Whether a layer with a sliding window attends to its last tokens alone, as in the model.

    Such an engine's `problems` say up to which lengths it is right; for others the plan does."""

    def why_unavailable(self, hardware: Hardware) -> str | None:
        """Why this machine cannot build with it, hint included, or None; imports nothing heavy."""

    def problems(
        self, config: Mapping[str, Json], settings: EngineSettings, hardware: Hardware
    ) -> list[Problem]:
        """Every reason why `build` would fail, for the stage `build`; no work is done."""

    def tool_versions(self) -> dict[str, str]:
        """Distribution name -> version of all that decides the engine's bytes: enters the key."""

    def attention_support(
        self, config: Mapping[str, Json], settings: EngineSettings
    ) -> list[TargetSupport]:
        """For each target of the recipe: is attention fused there, and how that is known."""

    def notes(self, config: Mapping[str, Json], settings: EngineSettings) -> list[str]:
        """What a plan tells beside its problems: options without effect, and the like."""

    def estimate(
        self, config: Mapping[str, Json], settings: EngineSettings, weight_bytes: int
    ) -> Estimate:
        """Memory and disk of a build from `weight_bytes` of rank files."""

    def memory_report(
        self, config: Mapping[str, Json], settings: EngineSettings
    ) -> dict[str, Json] | None:
        """GPU memory of the engine at its limits, term by term, JSON; None where it is not known.

        Keys as `plan` shows them: `tp_size`, `pp_size`, `ranks`, `gpus`, `engine_bytes`,
        `host_memory_bytes` (see `engines/trtllm/memory/report.py`).
        """

    def build(
        self,
        checkpoint: TrtllmCheckpoint,
        settings: EngineSettings,
        out_dir: Path,
        progress: Progress,
        *,
        cache_dir: Path | None = None,
    ) -> dict[str, Json]:
        """Write the engine folder: engine files, `engine.json`, `attention.json`; returns facts.

        `cache_dir` outlives builds: what may make a later one faster is kept there (kernel
        timings, say). It need not exist, and nothing but time may depend on it. None: nothing is
        kept.

        Facts and files are the same for the same checkpoint, settings and tools. Raises
        ToolFailed or MachineError; what was written to `out_dir` by then is the caller's to remove.
        """

    def why_not_runnable(
        self, settings: EngineSettings, hardware: Hardware, *, num_ranks: int = 1
    ) -> str | None:
        """Why an engine built with these settings cannot be executed here, or None.

        `num_ranks` is the number of rank files; only some engines need a GPU for each.
        """

    def open_generator(
        self, engine_dir: Path, checkpoint_dir: Path, *, timeout_s: float
    ) -> Generator:
        """Open a built engine; `checkpoint_dir` has the rank files, for engines that refer to them.

        `timeout_s` is for engines that run in a process of their own: to load and to generate.
        Raises MachineError where it cannot be executed, VerificationError where it is damaged.
        """
