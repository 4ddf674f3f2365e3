"""What the backend `onnxruntime` needs of a machine, for each device; nothing heavy is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.safetensors_file import ITEM_BYTES
from pipeline.engines.engine import Estimate, TargetSupport
from pipeline.engines.onnxruntime.cuda_kernels import why_no_trace
from pipeline.errors import MachineError, Problem, RecipeError
from pipeline.graph.config import decoder_of
from pipeline.hardware import Hardware
from pipeline.recipe.schema import EngineSettings

GPU_PACKAGE = "onnxruntime-gpu"
_PACKAGES = ("onnxruntime", GPU_PACKAGE)

_ASSIGNMENT = re.compile(r"^(\w+)\s*=\s*['\"]([^'\"]*)['\"]", re.MULTILINE)

SINGLE_OPERATOR = (
    "each attention is one `Attention` operator, executed by one kernel of the CPU provider; "
    "GPU flash-attention kernels are not part of a CPU engine"
)
_CHOSEN_LATE = (
    "ONNX Runtime chooses the kernel when it executes an `Attention` operator: the build executes "
    "a prompt and some steps, and names their kernels"
)
_NOT_IN_FLOAT32 = (
    "ONNX Runtime's CUDA provider has no fused kernel for grouped-query attention in float32 (seen "
    "with 1.31 on an H100)"
)

_RUNTIME_BYTES = {"cpu": 256 << 20, "cuda": 3 << 30}
"""ONNX Runtime's own, and its CUDA libraries', in host memory."""


def installed_runtime() -> tuple[str, str] | None:
    """Name and version of the ONNX Runtime whose files are in place, None without one.

    `onnxruntime` and `onnxruntime-gpu` install the same folder: where both were installed, pip
    knows of two, and the files are those of the later one. They say themselves what they are
    (ONNX Runtime 1.25 to 1.32, `onnxruntime/capi/build_and_package_info.py`).
    """
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return None
    told = Path(spec.origin).parent / "capi" / "build_and_package_info.py"
    if told.is_file():
        values = dict(_ASSIGNMENT.findall(told.read_text(encoding="utf-8")))
        if "package_name" in values and "__version__" in values:
            return values["package_name"], values["__version__"]
    found = [(name, version) for name in _PACKAGES if (version := _version(name)) is not None]
    return found[0] if found else ("onnxruntime", "unknown")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def missing_for_cuda(hardware: Hardware) -> list[str]:
    """What keeps this machine from executing an engine with `device: cuda`; empty: nothing."""
    missing = [] if hardware.gpus else ["there is no NVIDIA GPU, or no driver for it"]
    runtime = installed_runtime()
    if runtime is None or "gpu" not in runtime[0]:
        told = "nothing" if runtime is None else f"`{runtime[0]}` {runtime[1]}"
        missing.append(f"`{GPU_PACKAGE}` is not installed, {told} is in its place")
    return missing


def device_problems(
    config: Mapping[str, Json], settings: EngineSettings, hardware: Hardware
) -> list[Problem]:
    """Why an engine with `device: cuda` cannot be built here, for the stage `build`."""
    if settings.device == "cpu":
        return []
    missing = missing_for_cuda(hardware)
    if missing:
        message = "`engine.device` is `cuda`, which this machine cannot execute"
        hint = (
            "build on a machine with an NVIDIA GPU, after `pip install 'trtllm-pack[cuda]'` and "
            f"`pip install --force-reinstall --no-deps {GPU_PACKAGE}` there, or set "
            "`engine.device: cpu`"
        )
        return [Problem("build", message, hint, MachineError, tuple(missing))]
    found = [*_memory_problems(config, settings, hardware), *_trace_problems(settings)]
    return found + _fusion_problems(config, settings)


def _fusion_problems(config: Mapping[str, Json], settings: EngineSettings) -> list[Problem]:
    if not settings.attention.require_fused or not _is_unfused(config):
        return []
    hint = (
        "set `checkpoint.dtype: float16` or `bfloat16`, or `engine.attention.require_fused: false`"
    )
    return [Problem("build", _NOT_IN_FLOAT32, hint)]


def _is_unfused(config: Mapping[str, Json]) -> bool:
    """Whether attention is known to be computed in parts on a GPU."""
    decoder = decoder_of(config)
    attentions = decoder.attentions.values() if decoder else ()
    grouped = any(one.num_key_value_heads != one.num_attention_heads for one in attentions)
    return bool(config["dtype"] == "float32" and grouped)


def _trace_problems(settings: EngineSettings) -> list[Problem]:
    reason = why_no_trace()
    if reason is None or not settings.attention.require_fused:
        return []
    message = f"fused attention cannot be proved: {reason}"
    hint = "`pip install nvidia-cuda-cupti`, or set `engine.attention.require_fused: false`"
    return [Problem("build", message, hint, MachineError)]


def _memory_problems(
    config: Mapping[str, Json], settings: EngineSettings, hardware: Hardware
) -> list[Problem]:
    """KV cache alone larger than the first GPU: sure to fail, whatever the weights take."""
    needed, gpu = cache_bytes(config, settings), hardware.gpus[0]
    if not gpu.memory_bytes or needed <= gpu.memory_bytes:
        return []
    message = f"the KV cache takes {needed:,} bytes, and `{gpu.name}` has {gpu.memory_bytes:,}"
    hint = "use a smaller `engine.max_batch_size` or `engine.max_seq_len`"
    return [Problem("build", message, hint, RecipeError)]


def cache_bytes(config: Mapping[str, Json], settings: EngineSettings) -> int:
    """KV cache of an engine with `device: cuda`: made once, for its limits. 0: no graph."""
    decoder = decoder_of(config)
    if decoder is None:
        return 0
    slots = settings.max_batch_size * settings.max_seq_len * ITEM_BYTES[config["dtype"]]
    # Values are as wide as keys there (`graph.parts.cached_value_size`, which loads numpy).
    widths = (2 * max(one.key_size, one.value_size) for one in decoder.attentions.values())
    heads = (one.num_key_value_heads for one in decoder.attentions.values())
    return sum(slots * count * width for count, width in zip(heads, widths, strict=True))


def attention_support(config: Mapping[str, Json], settings: EngineSettings) -> list[TargetSupport]:
    """One answer, for the device: the recipe's GPU targets do not concern this backend."""
    if settings.device == "cpu":
        return [{"target": "cpu", "fused": True, "reason": SINGLE_OPERATOR}]
    if _is_unfused(config):
        return [{"target": "cuda", "fused": False, "reason": _NOT_IN_FLOAT32}]
    return [{"target": "cuda", "fused": None, "reason": _CHOSEN_LATE}]


def device_notes(config: Mapping[str, Json], settings: EngineSettings) -> list[str]:
    """What the GPU must hold beside the weights."""
    if settings.device == "cpu":
        return []
    mib = cache_bytes(config, settings) / 2**20
    return [f"KV cache on the GPU: {mib:,.0f} MiB for `max_batch_size` x `max_seq_len`"]


def estimate(config: Mapping[str, Json], settings: EngineSettings, weight_bytes: int) -> Estimate:
    """Memory: the weights as they are computed with, some of them twice while they are packed.

    On a GPU's host all of them twice, while they are turned.

    Disk: the engine folder, rank files included, although these are linked where possible.
    """
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    tables = settings.max_seq_len * (config.get("head_size") or hidden // heads) * 4
    graph = tables + config["num_hidden_layers"] * (32 << 10)
    stored = ITEM_BYTES[config["dtype"]]
    computed = ITEM_BYTES[compute_dtype(config, settings)]
    weights = weight_bytes * computed // stored
    copies = weights * 5 // 4 if settings.device == "cpu" else 2 * weights
    return {
        "memory_bytes": copies + _RUNTIME_BYTES[settings.device],
        "disk_bytes": weight_bytes + graph,
    }


def compute_dtype(config: Mapping[str, Json], settings: EngineSettings) -> str:
    """The dtype of the graph: ONNX Runtime's CPU provider has no kernels for bfloat16."""
    return "float32" if settings.device == "cpu" else str(config["dtype"])
