"""The backend `trtllm`: TensorRT-LLM 1.2.x, driven by its published interface."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from pipeline.artifact import Json
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.engine import Estimate, TargetSupport
from pipeline.engines.generation import Session
from pipeline.errors import MachineError, Problem
from pipeline.hardware import Hardware, detect
from pipeline.progress import Progress
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.facts import END_OF_LINE, FIRST_RELEASE

_NOT_YET = "building engines with TensorRT-LLM is not part of this version"
_HINT = "set `engine.backend: tensorrt` or `engine.backend: onnxruntime`"


class TrtllmEngine:
    """See `pipeline.engines.engine.Engine`."""

    name = "trtllm"

    def why_unavailable(self) -> str | None:
        """What is missing here of the package, its line and a GPU; else that nothing builds yet."""
        return _why_missing(self.tool_versions().get("tensorrt-llm")) or _NOT_YET

    def problems(
        self, config: Mapping[str, Json], settings: EngineSettings, hardware: Hardware
    ) -> list[Problem]:
        """What to use instead."""
        return [
            Problem("build", f"`engine.backend` is `trtllm`, but {_NOT_YET}", _HINT, MachineError)
        ]

    def tool_versions(self) -> dict[str, str]:
        """TensorRT-LLM and its TensorRT, where they are installed."""
        found = {}
        for name in ("tensorrt-llm", "tensorrt"):
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return found

    def attention_support(
        self, config: Mapping[str, Json], settings: EngineSettings
    ) -> list[TargetSupport]:
        """Not known by this version."""
        return [{"target": t, "fused": None, "reason": _NOT_YET} for t in settings.targets]

    def estimate(
        self, config: Mapping[str, Json], settings: EngineSettings, weight_bytes: int
    ) -> Estimate:
        """Twice the weights in memory, once on disk."""
        return {"memory_bytes": 2 * weight_bytes, "disk_bytes": weight_bytes}

    def build(
        self,
        checkpoint: TrtllmCheckpoint,
        settings: EngineSettings,
        out_dir: Path,
        progress: Progress,
        *,
        cache_dir: Path | None = None,
    ) -> NoReturn:
        """Raise MachineError; the plan has refused before."""
        raise MachineError(_NOT_YET, hint=_HINT)

    def why_not_runnable(self, settings: EngineSettings, hardware: Hardware) -> str | None:
        """There is no engine to run."""
        return _NOT_YET

    def load(self, engine_dir: Path, checkpoint_dir: Path) -> Session:
        """Raise MachineError."""
        raise MachineError(_NOT_YET, hint=_HINT)


def _why_missing(found: str | None) -> str | None:
    """Why TensorRT-LLM's engine workflow cannot run on this machine; nothing is imported."""
    if found is None:
        return f"`tensorrt_llm` is not installed, and {_NOT_YET}"
    release = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
    if not FIRST_RELEASE <= release < END_OF_LINE:
        return (
            f"`tensorrt_llm` is {found}, but the engine workflow is driven as of 1.2.1, the last "
            f"stable line that has one (1.3 runs models without engines), and {_NOT_YET}"
        )
    if not detect().gpus:
        return f"no NVIDIA GPU is visible, which TensorRT-LLM needs to build, and {_NOT_YET}"
    return None


ENGINE = TrtllmEngine()
