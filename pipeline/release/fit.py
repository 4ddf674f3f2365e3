"""Whether the engine of a release runs on a machine, and if not, why."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pydantic import ValidationError

from pipeline.artifact import canonical_json
from pipeline.engines import find_engine
from pipeline.hardware import Hardware
from pipeline.installed import installed
from pipeline.recipe.schema import EngineSettings
from pipeline.release.manifest import ReleaseManifest
from pipeline.release.pytorch_options import RANK_KEYS
from pipeline.trtllm.facts import END_OF_LINE, release_of

RANK_FILE = re.compile(r"engine/rank\d+\.(engine|safetensors)")


@dataclass(frozen=True, slots=True)
class Fit:
    """`reasons` say why the engine cannot run here; empty where it can."""

    runs: bool
    reasons: tuple[str, ...]


def fit_machine(manifest: ReleaseManifest, hardware: Hardware) -> Fit:
    """Compare a release with this machine: GPUs, and the TensorRT that loads the engine."""
    if manifest.engine.get("backend") == "pytorch":
        return _fit_pytorch(manifest, hardware)
    try:
        settings = EngineSettings.model_validate_json(canonical_json(manifest.recipe["engine"]))
    except (KeyError, ValidationError):
        return Fit(False, ("this version of trtllm-pack does not know its engine settings",))
    num_ranks = sum(RANK_FILE.fullmatch(file.path) is not None for file in manifest.files)
    reason = find_engine(settings.backend).why_not_runnable(
        settings, hardware, num_ranks=max(num_ranks, 1)
    )
    reasons = [reason] if reason is not None else []
    here = installed(manifest.lock.tools)
    for name, built_with in manifest.lock.tools.items():
        # An engine loads only in the TensorRT that built it; graphs are not tied to a version.
        if name.startswith("tensorrt") and (found := here.get(name)) != built_with:
            reasons.append(f"built with `{name}` {built_with}; installed is {found or 'none'}")
    return Fit(not reasons, tuple(reasons))


def _fit_pytorch(manifest: ReleaseManifest, hardware: Hardware) -> Fit:
    """A checkpoint for `trtllm-serve`: TensorRT-LLM without engines, and a GPU for each rank."""
    reasons = []
    found = installed(["tensorrt-llm"]).get("tensorrt-llm")
    if found is None or release_of(found) < END_OF_LINE:
        reasons.append(f"it is for TensorRT-LLM 1.3 or later; installed is {found or 'none'}")
    options = manifest.engine["serve"]
    wanted = math.prod(options[key] for key in RANK_KEYS)
    if len(hardware.gpus) < wanted:
        needed = "a GPU" if wanted == 1 else f"{wanted} GPUs"
        reasons.append(f"it needs {needed}; {len(hardware.gpus)} are visible")
    return Fit(not reasons, tuple(reasons))
