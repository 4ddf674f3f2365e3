"""What TensorRT can compile with fused attention: facts as data, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.engines.engine import TargetSupport
from pipeline.engines.tensorrt_api import Flavour
from pipeline.errors import MachineError, Problem
from pipeline.hardware import Hardware
from pipeline.recipe.schema import EngineSettings

RTX_TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""`ComputeCapability` of TensorRT for RTX 1.7.1."""

DTYPE_TARGETS = {
    "float16": RTX_TARGETS,
    "bfloat16": RTX_TARGETS[1:],  # the builder: "sm75 ... HW-specific datatypes: b16"
    "float32": RTX_TARGETS,
}
"""dtype -> targets that a network can be compiled for at all, attention aside."""

SOURCE = "measured with TensorRT for RTX 1.7.1"


@dataclass(frozen=True, slots=True)
class FusedKernels:
    """For which attention a kind of fused kernel exists; the same on every target of its dtype.

    Each bound was found by builds on both sides of it: 6 targets, both dtypes, head sizes 8 to 280
    and 512, 1 to 128 heads (query and key/value), up to 1,048,576 cache slots.
    """

    dtypes: tuple[str, ...]
    head_sizes: range
    min_heads: int
    max_slots_and_head: int | None
    """Cache slots (`max_seq_len`) plus head size."""


ANY_LENGTH = FusedKernels(("float16", "bfloat16"), range(16, 257, 8), 2, None)
"""Steps of a dynamic number of tokens."""

ONE_TOKEN = FusedKernels(("float16", "bfloat16"), range(16, 257, 8), 4, 24576)
"""Steps that are known to be of one token. 24576 float16 values are 48 kB of shared memory."""


def head_size_of(config: Mapping[str, Json]) -> int:
    """`head_size`, else `hidden_size / num_attention_heads` (TensorRT-LLM 1.2 PretrainedConfig)."""
    return int(config.get("head_size") or config["hidden_size"] // config["num_attention_heads"])


def generation_tokens(config: Mapping[str, Json], settings: EngineSettings) -> int:
    """Most tokens of a generation step: 1 where a fused kernel is made for that, else 2.

    With 2 the number of tokens is dynamic, so that the kernels of any length serve.
    """
    slots = settings.max_seq_len + head_size_of(config)
    most = ONE_TOKEN.max_slots_and_head
    fits = config["num_attention_heads"] >= ONE_TOKEN.min_heads and (most is None or slots <= most)
    return 1 if fits else 2


def why_not_fused(config: Mapping[str, Json]) -> str | None:
    """Why no fused attention kernel exists for this model on any target, or None."""
    dtype, head_size, heads = config["dtype"], head_size_of(config), config["num_attention_heads"]
    if dtype not in ANY_LENGTH.dtypes:
        return f"no fused attention kernel exists for {dtype}"
    if head_size not in ANY_LENGTH.head_sizes:
        sizes = ANY_LENGTH.head_sizes
        return (
            f"no fused attention kernel exists for head size {head_size}, only for multiples of "
            f"{sizes.step} from {sizes[0]} to {sizes[-1]}"
        )
    if heads < ANY_LENGTH.min_heads:
        return f"no fused attention kernel exists for {heads} attention head"
    return None


def attention_support(
    config: Mapping[str, Json], settings: EngineSettings, flavour: Flavour | None
) -> list[TargetSupport]:
    """For each target: fused or not, and how that is known."""
    return [_support(config, settings, flavour, target) for target in settings.targets]


def _support(
    config: Mapping[str, Json], settings: EngineSettings, flavour: Flavour | None, target: str
) -> TargetSupport:
    reason = why_not_fused(config)
    if reason is not None:
        return {"target": target, "fused": False, "reason": f"{reason} ({SOURCE})"}
    if not settings.attention.context_fmha:
        return {"target": target, "fused": False, "reason": "the recipe turns it off"}
    if target not in RTX_TARGETS or (flavour is not None and not flavour.is_rtx):
        return {"target": target, "fused": None, "reason": "the builder will tell"}
    if target not in DTYPE_TARGETS[config["dtype"]]:
        reason = f"{target} has no {config['dtype']} ({SOURCE})"
        return {"target": target, "fused": False, "reason": reason}
    told = f"{config['dtype']}, head size {head_size_of(config)} ({SOURCE})"
    return {"target": target, "fused": True, "reason": told}


def target_problems(
    config: Mapping[str, Json],
    settings: EngineSettings,
    flavour: Flavour | None,
    hardware: Hardware,
) -> list[Problem]:
    """Targets that the installed TensorRT, or else TensorRT for RTX, cannot build for."""
    if flavour is not None and not flavour.is_rtx:
        return _absent_gpus(settings, flavour, hardware)
    wrong = [target for target in settings.targets if target not in RTX_TARGETS]
    problems = []
    if wrong:
        known = ", ".join(RTX_TARGETS)
        problems.append(
            Problem(
                "build",
                f"`engine.targets` has {_names(wrong)}, but TensorRT for RTX compiles for {known}",
                hint=f"choose `engine.targets` among [{known}]; for Hopper and data-centre "
                "Blackwell build with `tensorrt-cu13`, in an NVIDIA container on such a GPU, or "
                "with the backend `trtllm`",
            )
        )
    able = DTYPE_TARGETS[config["dtype"]]
    lacking = [t for t in settings.targets if t in RTX_TARGETS and t not in able]
    if lacking:
        problems.append(
            Problem(
                "build",
                f"`engine.targets` has {_names(lacking)}, which has no {config['dtype']}",
                hint="set `checkpoint.dtype: float16`, or choose `engine.targets` among "
                f"[{', '.join(able)}]",
            )
        )
    return problems


def _absent_gpus(settings: EngineSettings, flavour: Flavour, hardware: Hardware) -> list[Problem]:
    wrong = [target for target in settings.targets if target not in hardware.targets]
    if not wrong:
        return []
    present = ", ".join(sorted(hardware.targets)) or "none"
    return [
        Problem(
            "build",
            f"`engine.targets` has {_names(wrong)}, but {flavour.title} builds for the GPU that "
            f"is present: {present}",
            hint="build on a machine with this GPU, or use TensorRT for RTX in an environment "
            "without `tensorrt`",
            kind=MachineError,
        )
    ]


def fusion_problems(config: Mapping[str, Json], settings: EngineSettings) -> list[Problem]:
    """Fused attention that the recipe asks for and that does not exist: the build would fail."""
    reason = why_not_fused(config)
    if not settings.attention.context_fmha:
        return _unfused_problems(config)
    if reason is None:
        return []
    unfused = "`engine.attention: {context_fmha: false, require_fused: false}`"
    hint = f"ask for unfused attention by {unfused}, or use the backend `onnxruntime`"
    if config["dtype"] not in ANY_LENGTH.dtypes:
        hint = f"set `checkpoint.dtype` to `bfloat16` or `float16`, or {hint}"
    return [Problem("build", f"the recipe asks for fused attention, but {reason} ({SOURCE})", hint)]


def _unfused_problems(config: Mapping[str, Json]) -> list[Problem]:
    """Head sizes on which the builder fails by a check of its own, fused or not."""
    head_size = head_size_of(config)
    in_range = head_size in range(ANY_LENGTH.head_sizes[0] // 2, ANY_LENGTH.head_sizes[-1] + 1)
    if config["dtype"] == "float32" or not in_range or head_size % 8 == 0:
        return []
    told = f"TensorRT cannot compile head size {head_size} in {config['dtype']}, even unfused"
    return [
        Problem(
            "build",
            f"{told} ({SOURCE})",
            hint="set `checkpoint.dtype: float32`, or use the backend `onnxruntime`",
        )
    ]


def _names(targets: list[str]) -> str:
    return ", ".join(f"`{target}`" for target in targets)
