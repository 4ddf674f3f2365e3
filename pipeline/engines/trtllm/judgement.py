"""A build judged before any work: TensorRT-LLM's rules against settings, model and targets."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.engines.engine import TargetSupport
from pipeline.errors import Problem
from pipeline.recipe.engine_rules import is_refused, settings_facts
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.attention_kernels import GENERATED, find_kernels
from pipeline.trtllm.facts import facts
from pipeline.trtllm.plugin_rules import FP8_ALGOS
from pipeline.trtllm.rules import SURENESS, Finding, find_broken
from pipeline.trtllm.table import GROUPS, RULES
from pipeline.weights.parallel import parallelism_of

_UNSCALED_ROPES = ("su", "longrope", "llama3")
"""Rope types whose factor does not lengthen `max_position_embeddings` (1.2 `builder.py`)."""


def rule_facts(
    config: Mapping[str, Json], settings: EngineSettings, target: str | None = None
) -> dict[str, Json]:
    """All that rules read: of the settings, of a checkpoint's config.json, perhaps of one target.

    See `pipeline.trtllm.rules.Rule`. `config` is TensorRT-LLM's; what it leaves out has the value
    that TensorRT-LLM 1.2 gives it (`models/modeling_utils.py`, PretrainedConfig).
    """
    parallelism = parallelism_of(config)
    quantization = config.get("quantization") or {}
    known = facts()["architectures"].get(config["architecture"], {})
    found = {
        **settings_facts(settings),
        "model": _filled_in(config),
        "model_class": known.get("model_class"),
        "quant_algo": _algorithm(quantization.get("quant_algo")),
        "kv_cache_quant_algo": _algorithm(quantization.get("kv_cache_quant_algo")),
        "rope_type": _rope_type(config),
        "max_positions": _max_positions(config),
        "num_experts": (config.get("moe") or {}).get("num_experts") or 0,
        "tp_size": parallelism.tp_size,
        "pp_size": parallelism.pp_size,
        "cp_size": parallelism.cp_size,
        "moe_ep_size": parallelism.moe_ep_size,
        "world_size": parallelism.world_size,
    }
    if target is not None:
        found |= {"target": target, "sm": int(target.removeprefix("sm"))}
    return found


def rule_problems(config: Mapping[str, Json], settings: EngineSettings) -> list[Problem]:
    """One problem of the stage `build` for every rule that stops it, with the rule's source."""
    required = settings.attention.require_fused
    return [
        Problem("build", finding.message, finding.hint, facts=(finding.told_source,))
        for finding in _findings(config, settings)
        if is_refused(finding, require_fused=required)
    ]


def notes(config: Mapping[str, Json], settings: EngineSettings) -> list[str]:
    """What is told and stops nothing: options without effect, and unfused attention if allowed."""
    required = settings.attention.require_fused
    return [
        f"{finding.message}; {finding.hint} (rule `{finding.rule.name}`)"
        for finding in _findings(config, settings)
        if not is_refused(finding, require_fused=required)
    ]


def attention_support(config: Mapping[str, Json], settings: EngineSettings) -> list[TargetSupport]:
    """For each target: is context attention fused there, how that is known, and how surely."""
    return [_support(config, settings, target) for target in settings.targets]


def _findings(config: Mapping[str, Json], settings: EngineSettings) -> list[Finding]:
    """The broken rules: those of no target once, those of a target for each and naming it."""
    common = [rule for rule in RULES if "sm" not in rule.needs]
    found = find_broken(common, rule_facts(config, settings))
    of_target = [rule for rule in RULES if "sm" in rule.needs]
    for target in settings.targets:
        broken = find_broken(of_target, rule_facts(config, settings, target))
        found += [_naming(finding, target) for finding in broken]
    return found


def _naming(finding: Finding, target: str) -> Finding:
    if target in finding.message:
        return finding
    return Finding(finding.rule, f"{finding.message} (on {target})", finding.hint)


def _support(config: Mapping[str, Json], settings: EngineSettings, target: str) -> TargetSupport:
    if not settings.attention.context_fmha:
        return {"target": target, "fused": False, "reason": "the recipe turns it off"}
    known = rule_facts(config, settings, target)
    reason = _why_not_fused(known)
    if reason is not None:
        return {"target": target, "fused": False, "reason": reason}
    model = known["model"]
    is_fp8 = settings.use_fp8_context_fmha and known["quant_algo"] in FP8_ALGOS
    arithmetic = "fp8" if is_fp8 else model["dtype"]
    kernels = find_kernels(known["sm"], arithmetic, model["head_size"])
    told = f"{arithmetic}, head size {model['head_size']}"
    is_capped = model.get("attn_logit_softcapping") is not None
    if kernels is None or (is_capped and known["sm"] in GENERATED):
        told += ", soft-capped scores" if is_capped else ""
        reason = f"no source says whether there are kernels for {told}; the build log will tell"
        return {"target": target, "fused": None, "reason": reason}
    reason = f"{told} ({kernels.source}; {SURENESS[kernels.sure]})"
    return {"target": target, "fused": True, "reason": reason}


def _why_not_fused(known: Mapping[str, Json]) -> str | None:
    """The first rule by which attention is unfused, else by which there is no engine at all."""
    of_gpu = [rule for rule in GROUPS["GPUs"] if "sm" in rule.needs]
    rules = (*GROUPS["attention"], *of_gpu)
    for effect in ("unfused", "refused"):
        broken = find_broken((rule for rule in rules if rule.effect == effect), known)
        if broken:
            return f"{broken[0].message}; {broken[0].told_source}"
    return None


def _filled_in(config: Mapping[str, Json]) -> dict[str, Json]:
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    head_size = config.get("head_size") or hidden // heads
    usual = {
        "num_key_value_heads": heads,
        "head_size": head_size,
        "intermediate_size": 4 * hidden,
        "rotary_embedding_dim": int(head_size * config.get("rotary_pct", 1.0)),
    }
    others = {"hidden_act": "gelu", "position_embedding_type": "learned_absolute"}
    missing = {key: value for key, value in usual.items() if config.get(key) is None}
    return {**others, **config, **missing}


def _algorithm(name: Json) -> Json:
    return None if name == "NO_QUANT" else name


def _rope_type(config: Mapping[str, Json]) -> Json:
    scaling = config.get("rotary_scaling") or {}
    return scaling.get("type", scaling.get("rope_type"))


def _max_positions(config: Mapping[str, Json]) -> int | None:
    """`max_position_embeddings` times the factor of a rope scaling, as TensorRT-LLM counts it."""
    most: int | None = config.get("max_position_embeddings")
    if most is None:
        return None
    scaling = config.get("rotary_scaling") or {}
    factor: float = scaling.get("factor", 1.0)
    if _rope_type(config) in _UNSCALED_ROPES:
        return most
    return math.floor(most * factor)
