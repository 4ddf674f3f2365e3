"""All rules of TensorRT-LLM 1.2, in one table."""

from __future__ import annotations

from pipeline.trtllm.adapter_rules import DRAFT_RULES, LORA_RULES
from pipeline.trtllm.attention_rules import ATTENTION_RULES
from pipeline.trtllm.fp8_rules import FP8_RULES
from pipeline.trtllm.gpu_rules import GPU_RULES
from pipeline.trtllm.idle_rules import IDLE_RULES
from pipeline.trtllm.limit_rules import LIMIT_RULES
from pipeline.trtllm.model_rules import MODEL_RULES
from pipeline.trtllm.option_rules import OPTION_RULES
from pipeline.trtllm.plugin_rules import FUSION_RULES, PLUGIN_RULES
from pipeline.trtllm.rules import Rule
from pipeline.trtllm.unmet_rules import UNMET_RULES

GROUPS: dict[str, tuple[Rule, ...]] = {
    "options": OPTION_RULES,
    "limits": LIMIT_RULES,
    "fusions": FUSION_RULES,
    "plugins": PLUGIN_RULES,
    "attention": (*ATTENTION_RULES, *FP8_RULES),
    "GPUs": GPU_RULES,
    "models": MODEL_RULES,
    "LoRA": LORA_RULES,
    "drafts and prompt tables": DRAFT_RULES,
    "options that come to nothing": UNMET_RULES,
    "options without effect": IDLE_RULES,
}
"""Heading -> its rules."""

RULES: tuple[Rule, ...] = tuple(rule for rules in GROUPS.values() for rule in rules)
"""Every rule; names are unique."""


def find_rule(name: str) -> Rule | None:
    """The rule of that name."""
    return next((rule for rule in RULES if rule.name == name), None)
