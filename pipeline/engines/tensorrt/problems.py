"""Why TensorRT would not build what a recipe asks for: targets, dtypes, sizes, options."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.engines.tensorrt.api import Flavour
from pipeline.engines.tensorrt.facts import ANY_LENGTH, DTYPE_TARGETS, FACTS, RTX_TARGETS, SOURCE
from pipeline.engines.tensorrt.support import why_not_fused
from pipeline.errors import MachineError, Problem
from pipeline.graph.config import decoder_of
from pipeline.hardware import Hardware
from pipeline.recipe.schema import EngineSettings


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
    also = " and `checkpoint.dtype: float32`" if _unfused_problems(config) else ""
    hint = f"ask for unfused attention by {unfused}{also}, or use the backend `onnxruntime`"
    if config["dtype"] not in ANY_LENGTH.dtypes:
        hint = f"set `checkpoint.dtype` to `bfloat16` or `float16`, or {hint}"
    return [Problem("build", f"the recipe asks for fused attention, but {reason} ({SOURCE})", hint)]


def _unfused_problems(config: Mapping[str, Json]) -> list[Problem]:
    """Head sizes on which the builder fails by a check of its own, fused or not."""
    decoder = decoder_of(config)
    least, most = ANY_LENGTH.head_sizes[0] // 2, ANY_LENGTH.head_sizes[-1]
    wrong = {
        size
        for site in (decoder.attentions.values() if decoder else ())
        if site.softcap is None  # plain operators have no such check
        if least <= (size := max(site.key_size, site.value_size)) <= most and size % 8
    }
    if config["dtype"] == "float32" or not wrong:
        return []
    told = f"TensorRT cannot compile head size {min(wrong)} in {config['dtype']}, even unfused"
    return [
        Problem(
            "build",
            f"{told} ({SOURCE})",
            hint="set `checkpoint.dtype: float32`, or use the backend `onnxruntime`",
        )
    ]


def option_problems(
    settings: EngineSettings, flavour: Flavour | None, hardware: Hardware
) -> list[Problem]:
    """Options that the installed TensorRT, or else TensorRT for RTX, does not honour here."""
    is_rtx = flavour is None or flavour.is_rtx
    problems = []
    if settings.tensorrt.version_compatible and is_rtx:
        fact = FACTS["version_compatible"]
        problems.append(
            Problem(
                "build",
                f"`engine.tensorrt.version_compatible` is true, but {fact.what} {fact.way} "
                f"({fact.source})",
                hint="remove it, or build with `tensorrt-cu13`, on the GPU that is to run it",
            )
        )
    if settings.tensorrt.strip_weights and is_rtx and not hardware.gpus:
        fact = FACTS["refit"]
        problems.append(
            Problem(
                "build",
                f"`engine.tensorrt.strip_weights` is true, but {fact.what} are {fact.way} "
                f"({SOURCE})",
                hint="build on a machine with an NVIDIA GPU, or remove it",
                kind=MachineError,
            )
        )
    return problems


def _names(targets: list[str]) -> str:
    return ", ".join(f"`{target}`" for target in targets)
