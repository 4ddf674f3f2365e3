"""Whether context attention is fused, as far as memory goes: unfused, it needs quadratic space."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.engines.trtllm.judgement import rule_facts
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.rules import find_broken
from pipeline.trtllm.table import RULES

_FALLBACKS = tuple(rule for rule in RULES if rule.effect == "unfused")


def is_fused_on(config: Mapping[str, Json], settings: EngineSettings, target: str) -> bool:
    """Whether attention is asked to be fused, and no rule says that it falls back on a target.

    Where fused attention is required, no engine that falls back is built: its rule refuses it, and
    the memory is that of the engine that is wanted.
    """
    if not settings.attention.context_fmha or settings.gpt_attention_plugin is None:
        return False
    if settings.attention.require_fused:
        return True
    return not find_broken(_FALLBACKS, rule_facts(config, settings, target))


def is_fused_everywhere(config: Mapping[str, Json], settings: EngineSettings) -> bool:
    """Whether it is fused on every target."""
    return all(is_fused_on(config, settings, target) for target in settings.targets)
