"""What must hold right before a build, on this machine: versions, GPUs, driver, free memory."""

from __future__ import annotations

import re
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.engines.trtllm.request import PROGRAM
from pipeline.errors import MachineError, Problem, ResourceError
from pipeline.hardware import Gpu, Hardware
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.facts import END_OF_LINE, FIRST_RELEASE, release_of

PACKAGE = "tensorrt-llm"
TENSORRT = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
"""Names under which TensorRT is installed; the first one that is there is meant."""

OLDEST_DRIVER = 580
"""CUDA 13, with which the 1.2 line is built, needs it (CUDA 13 release notes, table of drivers)."""

OLDEST_COMPATIBLE_DRIVER = 535
"""Data-centre GPUs run it on this one too, where CUDA's forward-compatibility libraries are."""

COMPATIBILITY = Path("/usr/local/cuda/compat")

MIGRATION = (
    "TensorRT-LLM 1.3 and later run models without engines: set `package.kind: pytorch` for a "
    "release of the checkpoint and its serving options, or install 1.2.x for an engine"
)


def installed_versions() -> dict[str, str]:
    """TensorRT-LLM and its TensorRT, by distribution name, where they are installed."""
    found = {}
    for name in (PACKAGE, *TENSORRT):
        if name in TENSORRT and any(other in found for other in TENSORRT):
            continue
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def why_no_package(found: str | None) -> str | None:
    """Why this TensorRT-LLM is not one that can be driven, hint included, or None."""
    if found is None:
        return (
            "`tensorrt_llm` is not installed; run in NVIDIA's release container, or install the "
            "extra `trtllm`"
        )
    release = release_of(found)
    if release >= END_OF_LINE:
        return f"`tensorrt_llm` is {found}, which has no engines; {MIGRATION}"
    if release < FIRST_RELEASE or re.search(r"\d(a|b|rc|\.dev)\d", found):
        return (
            f"`tensorrt_llm` is {found}, but the engine workflow is driven as of 1.2.1, the last "
            "stable line that has one; install 1.2.x"
        )
    return None


def why_no_program() -> str | None:
    """`trtllm-build` is not on PATH, or None."""
    if shutil.which(PROGRAM) is not None:
        return None
    return f"`{PROGRAM}` is not on PATH; put the `bin` folder of TensorRT-LLM's environment there"


def build_gpus(settings: EngineSettings, hardware: Hardware) -> list[Gpu]:
    """The GPUs that a build uses: those of the target, as many as ranks are built at a time."""
    fitting = [gpu for gpu in hardware.gpus if gpu.target in settings.targets]
    return fitting[: settings.workers]


def machine_problems(settings: EngineSettings, hardware: Hardware) -> list[Problem]:
    """No GPU of the target among those present, or a driver that is too old.

    Where there is no GPU at all, `why_unavailable` says so.
    """
    gpus = build_gpus(settings, hardware)
    if hardware.gpus and not gpus:
        wanted = ", ".join(f"`{target}`" for target in settings.targets)
        present = ", ".join(sorted(hardware.targets)) or "no NVIDIA GPU"
        return [
            Problem(
                "build",
                f"`engine.targets` has {wanted}, but TensorRT-LLM builds for a GPU that is "
                f"present: {present}",
                hint="build on a machine with this GPU; converting works anywhere",
                kind=MachineError,
            )
        ]
    reasons = dict.fromkeys(reason for gpu in gpus if (reason := why_old_driver(gpu)) is not None)
    hint = "update the driver to 580 or later"
    return [Problem("build", reason, hint, MachineError) for reason in reasons]


def why_old_driver(gpu: Gpu) -> str | None:
    """Why a GPU's driver cannot run the CUDA of the 1.2 line, or None."""
    found = re.match(r"\d+", gpu.driver)
    if found is None or int(found[0]) >= OLDEST_DRIVER:
        return None
    told = f"the NVIDIA driver is {gpu.driver}, but TensorRT-LLM 1.2 is built with CUDA 13, which "
    if int(found[0]) < OLDEST_COMPATIBLE_DRIVER:
        return f"{told}needs {OLDEST_DRIVER}"
    if any(COMPATIBILITY.glob("libcuda.so*")):
        return None
    return (
        f"{told}needs {OLDEST_DRIVER}, or {OLDEST_COMPATIBLE_DRIVER} and the libraries in "
        f"`{COMPATIBILITY}`"
    )


def check_free_memory(gpus: list[Gpu], needed_bytes: int) -> None:
    """Raise ResourceError where other processes leave a GPU less than a rank's build needs."""
    short = [
        gpu
        for gpu in gpus
        if gpu.free_memory_bytes is not None and gpu.free_memory_bytes < needed_bytes
    ]
    if short:
        raise ResourceError(
            f"building a rank needs about {needed_bytes:,} bytes of GPU memory",
            facts=[
                f"{gpu.name}: {gpu.free_memory_bytes:,} of {gpu.memory_bytes:,} bytes are free"
                for gpu in short
            ],
            hint="end what else runs on this GPU, or lower `engine.max_batch_size` and "
            "`engine.max_num_tokens`",
        )


def device_names(gpus: list[Gpu], hardware: Hardware) -> list[str]:
    """How `trtllm-build` is to find these GPUs; empty where they need not be told from others.

    Raises MachineError where they cannot be told from others of another architecture.
    """
    names = [gpu.device for gpu in gpus if gpu.device is not None]
    if len(names) == len(gpus):
        return names
    if len(hardware.targets) > 1:
        raise MachineError(
            "the driver does not tell GPUs apart, and not all have the architecture of "
            "`engine.targets`",
            hint="leave only those visible that the engine is for, by `CUDA_VISIBLE_DEVICES`",
        )
    return []
