"""What TensorRT can compile with fused attention: facts as data, each with its source."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.engines.engine import TargetSupport
from pipeline.engines.tensorrt_api import Flavour
from pipeline.errors import Problem
from pipeline.hardware import Hardware
from pipeline.recipe.schema import EngineSettings

RTX_TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""`ComputeCapability` of TensorRT for RTX 1.7.1."""

HEAD_SIZES = range(16, 257, 8)
"""Head sizes that compile fused on every target; 8 and 264 are refused by the builder."""

MAX_CACHE_SLOTS = 24576
"""Fused attention under a mask exists up to so many cache slots less one head size: 24512 for head
size 64, 24320 for 256, on every target, in both dtypes, for any number of heads."""

FUSED_DTYPES = {"float16": RTX_TARGETS, "bfloat16": RTX_TARGETS[1:]}
"""dtype -> targets that have a fused kernel for it. float32 has none on any."""

SOURCE = "measured with TensorRT for RTX 1.7.1"


def head_size_of(config: Mapping[str, Json]) -> int:
    """`head_size`, else `hidden_size / num_attention_heads` (TensorRT-LLM 1.2 PretrainedConfig)."""
    return int(config.get("head_size") or config["hidden_size"] // config["num_attention_heads"])


def why_not_fused(config: Mapping[str, Json], target: str, max_seq_len: int) -> str | None:
    """Why no fused attention kernel exists for this model on a target, or None."""
    dtype, head_size = config["dtype"], head_size_of(config)
    if dtype not in FUSED_DTYPES:
        return f"no fused attention kernel exists for {dtype}"
    if head_size not in HEAD_SIZES:
        return f"no fused attention kernel exists for head size {head_size}"
    if target in RTX_TARGETS and max_seq_len > MAX_CACHE_SLOTS - head_size:
        return (
            f"no fused attention kernel exists for `engine.max_seq_len` {max_seq_len} with head "
            f"size {head_size}, only up to {MAX_CACHE_SLOTS - head_size}"
        )
    if target in RTX_TARGETS and target not in FUSED_DTYPES[dtype]:
        return f"no fused attention kernel exists for {dtype} on {target}"
    return None


def attention_support(
    config: Mapping[str, Json], settings: EngineSettings, flavour: Flavour | None
) -> list[TargetSupport]:
    """For each target: fused or not, and how that is known."""
    rows: list[TargetSupport] = []
    for target in settings.targets:
        reason = why_not_fused(config, target, settings.max_seq_len)
        known = flavour is not None and flavour.is_rtx and target in RTX_TARGETS
        if reason is not None:
            rows.append({"target": target, "fused": False, "reason": f"{reason} ({SOURCE})"})
        elif not settings.attention.context_fmha:
            rows.append({"target": target, "fused": False, "reason": "the recipe turns it off"})
        elif known:
            told = f"{config['dtype']}, head size {head_size_of(config)} ({SOURCE})"
            rows.append({"target": target, "fused": True, "reason": told})
        else:
            rows.append({"target": target, "fused": None, "reason": "the builder will tell"})
    return rows


def target_problems(
    settings: EngineSettings, flavour: Flavour, hardware: Hardware
) -> list[Problem]:
    """Targets that the installed TensorRT cannot build for."""
    if flavour.is_rtx:
        wrong = [target for target in settings.targets if target not in RTX_TARGETS]
        known = ", ".join(RTX_TARGETS)
        reason = f"{flavour.title} compiles for {known}"
        hint = (
            f"choose `engine.targets` among [{known}]; for Hopper and data-centre Blackwell "
            "install `tensorrt-cu13` from NVIDIA's index on such a machine"
        )
    else:
        wrong = [target for target in settings.targets if target not in hardware.targets]
        present = ", ".join(sorted(hardware.targets)) or "none"
        reason = f"{flavour.title} builds for the GPU that is present: {present}"
        hint = "build on a machine with this GPU, or install TensorRT for RTX"
    if not wrong:
        return []
    names = ", ".join(f"`{target}`" for target in wrong)
    return [Problem("build", f"`engine.targets` has {names}, but {reason}", hint=hint)]


def fusion_problems(config: Mapping[str, Json], settings: EngineSettings) -> list[Problem]:
    """Targets on which the required fused attention does not exist."""
    if not settings.attention.require_fused:
        return []
    reasons = {
        target: why_not_fused(config, target, settings.max_seq_len) for target in settings.targets
    }
    distinct = dict.fromkeys(reason for reason in reasons.values() if reason is not None)
    return [
        Problem(
            "build",
            f"`engine.attention.require_fused` is true, but {reason} ({SOURCE})",
            hint=_fusion_hint(config, settings.max_seq_len),
        )
        for reason in distinct
    ]


def _fusion_hint(config: Mapping[str, Json], max_seq_len: int) -> str:
    longest = MAX_CACHE_SLOTS - head_size_of(config)
    if head_size_of(config) not in HEAD_SIZES:
        return (
            "use the backend `onnxruntime`, or ask for unfused attention: "
            "`engine.attention: {context_fmha: false, require_fused: false}`"
        )
    if config["dtype"] in FUSED_DTYPES and max_seq_len > longest:
        return f"set `engine.max_seq_len: {longest}` or less"
    return "set `checkpoint.dtype: float16`" + (
        ", or `bfloat16` for sm80 and later" if config["dtype"] == "float32" else ""
    )
