"""The engine section of a recipe against TensorRT-LLM's rules between options."""

from __future__ import annotations

from pipeline.artifact import Json
from pipeline.recipe.schema import EngineSettings


def settings_facts(settings: EngineSettings) -> dict[str, Json]:
    """What the formulas of rules read of the settings alone: every key by its name.

    Defaults that are worked out have their value; `targets` is a count, `num_targets`.
    """
    facts = settings.model_dump(exclude={"attention", "targets"})
    return {
        **facts,
        "context_fmha": settings.attention.context_fmha,
        "require_fused": settings.attention.require_fused,
        "num_targets": len(settings.targets),
    }
