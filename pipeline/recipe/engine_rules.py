"""The engine section of a recipe against TensorRT-LLM's rules between options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.artifact import Json
from pipeline.recipe.nodes import KeyPath
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.options import options
from pipeline.trtllm.rules import Finding, find_broken
from pipeline.trtllm.table import RULES

ROUNDED_TO_TOKENS = 64


def settings_facts(settings: EngineSettings) -> dict[str, Json]:
    """What the formulas of rules read of the settings alone: every key by its name.

    Defaults that are worked out have their value; `targets` is a count, `num_targets`.
    """
    facts = settings.model_dump(exclude={"attention", "targets"})
    known = options()["lora_target_modules"].values or settings.lora_target_modules
    return {
        **facts,
        "max_num_tokens": settings.max_num_tokens or default_num_tokens(settings),
        "context_fmha": settings.attention.context_fmha,
        "require_fused": settings.attention.require_fused,
        "num_targets": len(settings.targets),
        "unknown_lora_modules": ", ".join(
            f"`{name}`" for name in settings.lora_target_modules if name not in known
        ),
    }


def default_num_tokens(settings: EngineSettings) -> int:
    """A whole prompt beside one token of every sequence, rounded up; at most what fits a batch.

    Within the bounds to which TensorRT-LLM would move it (1.2 `_common.py`, check_max_num_tokens;
    `builder.py` for drafts).
    """
    most = settings.max_batch_size * settings.max_seq_len
    if not settings.remove_input_padding:
        return most
    least = settings.max_input_len + settings.max_batch_size * settings.max_beam_width
    rounded = -(-least // ROUNDED_TO_TOKENS) * ROUNDED_TO_TOKENS
    is_fused = settings.attention.context_fmha
    smallest = settings.tokens_per_block if is_fused else settings.max_input_len
    drafts = settings.speculative_decoding_mode is not None
    drafted = settings.max_batch_size * (settings.max_draft_len + 1) if drafts else 0
    return max(min(rounded, most), smallest, drafted)


def is_refused(finding: Finding, *, require_fused: bool) -> bool:
    """Whether a broken rule stops a build: one that is only ignored is told instead."""
    effect = finding.rule.effect
    return effect in ("refused", "changed", "unmet") or (effect == "unfused" and require_fused)


def refused_options(engine: Mapping[str, Any]) -> list[Finding]:
    """The rules that an engine section breaks by itself; it must be valid by its types.

    Raises ValidationError where it is not.
    """
    settings = EngineSettings.model_validate(engine)
    if settings.backend != "trtllm":
        return []
    required = settings.attention.require_fused
    found = find_broken(RULES, settings_facts(settings))
    return [finding for finding in found if is_refused(finding, require_fused=required)]


def key_path(key: str) -> KeyPath:
    """`engine.attention.context_fmha` as a path."""
    return tuple(key.split("."))
