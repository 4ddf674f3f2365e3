"""Whether the engine of a release runs on a machine, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from pydantic import ValidationError

from pipeline.artifact import canonical_json
from pipeline.engines import find_engine
from pipeline.hardware import Hardware
from pipeline.recipe.schema import EngineSettings
from pipeline.release.manifest import ReleaseManifest


@dataclass(frozen=True, slots=True)
class Fit:
    """`reasons` say why the engine cannot run here; empty where it can."""

    runs: bool
    reasons: tuple[str, ...]


def fit_machine(manifest: ReleaseManifest, hardware: Hardware) -> Fit:
    """Compare a release with this machine: GPUs, and the TensorRT that loads the engine."""
    try:
        settings = EngineSettings.model_validate_json(canonical_json(manifest.recipe["engine"]))
    except (KeyError, ValidationError):
        return Fit(False, ("this version of trtllm-pack does not know its engine settings",))
    reason = find_engine(settings.backend).why_not_runnable(settings, hardware)
    reasons = [reason] if reason is not None else []
    for name, built_with in manifest.lock.tools.items():
        # An engine loads only in the TensorRT that built it; graphs are not tied to a version.
        if name.startswith("tensorrt") and (installed := _installed(name)) != built_with:
            reasons.append(f"built with `{name}` {built_with}; installed is {installed or 'none'}")
    return Fit(not reasons, tuple(reasons))


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
