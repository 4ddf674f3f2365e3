"""Lines of a TensorRT-LLM 1.2 build log that mean something, as data: text, meaning, source.

Three writers share the log. Python: `[date-time] [TRT-LLM] [W] text` on stdout (`logger.py`). C++:
`[TensorRT-LLM][WARNING] text`, warnings and errors on stderr (`cpp/include/tensorrt_llm/common/
logger.h`). TensorRT: `[date-time] [TRT] [W] text`. A rank is told only where a logger was given
one (`[RANK 1]`, `[WARNING][1]`), or by the name of a rank's file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line to look for. `pattern` is searched in it; `source` names project file and function."""

    name: str
    pattern: str
    means: str
    source: str

    def is_in(self, line: str) -> bool:
        """Whether a line of the log is one of these."""
        return re.search(self.pattern, line) is not None


_INITIALIZE = "TensorRT-LLM 1.x `cpp/tensorrt_llm/common/attentionOp.cpp`, AttentionOp::initialize"
_DISPATCHER = "TensorRT-LLM 1.x `cpp/tensorrt_llm/kernels/fmhaDispatcher.cpp`"
_RUNNER = (
    "TensorRT-LLM 1.x `cpp/tensorrt_llm/kernels/contextFusedMultiHeadAttention/fmhaRunner.cpp`"
)
_BUILDER = "TensorRT-LLM 1.x `tensorrt_llm/builder.py`"

FALLBACKS = (
    LogLine(
        "dtype",
        r"Fall back to unfused MHA because of unsupported data type",
        "fused context attention computes in float16 and bfloat16 only",
        _INITIALIZE,
    ),
    LogLine(
        "relative-position",
        r"Fall back to unfused MHA because of relative position embedding",
        "fused context attention has no relative position embedding",
        _INITIALIZE,
    ),
    LogLine(
        "cross-attention",
        r"Fall back to unfused MHA because of cross attention \+ contiguous kv cache",
        "fused cross attention needs the paged KV cache",
        _INITIALIZE,
    ),
    LogLine(
        "no-kernel",
        r"Fall back to unfused MHA for ",
        "there is no fused kernel for this dtype, head size, mask and GPU",
        f"{_DISPATCHER}, FmhaDispatcher::isSupported",
    ),
    LogLine("other", r"Fall back to unfused MHA", "context attention is unfused", _INITIALIZE),
    LogLine(
        "no-kernel-parameters",
        r"FMHA Kernel doesn't exist for mFixedParams|FMHA kernels are not found with these",
        "there is no fused kernel for these parameters",
        f"{_RUNNER}, FusedMHARunnerV2::isFmhaSupported",
    ),
    LogLine(
        "blackwell",
        r"TRTLLM-GEN does not support (the requested kernels|custom mask|ALiBi|padded inputs)",
        "on SM 100 and 103 the fused kernels lack this mask, ALiBi, input or size",
        f"{_DISPATCHER}, FmhaDispatcher::isSupported",
    ),
    LogLine(
        "turned-off",
        r"Context FMHA is disabled, FP8 Context FMHA and Paged Context FMHA are disabled",
        "the builder was told to leave context attention unfused",
        f"{_BUILDER}, build",
    ),
)
"""A line of any of these: context attention runs without fused kernels. The first one counts.

The plugin decides it while the engine is built, and again when it is loaded; the engine's own
config.json does not say so.
"""

OVERRIDES = (
    LogLine(
        "override",
        r"\[W\] Overriding \w+ to ",
        "the builder set an option otherwise than asked",
        f"{_BUILDER}, build and update_kv_cache_type",
    ),
    LogLine(
        "fmha-override",
        r"(FP8|Paged) (Paged )?Context FMHA is (disabled|enabled)",
        "the builder set an option of context attention otherwise than asked",
        f"{_BUILDER}, build",
    ),
    LogLine(
        "fp8-fmha-gpu",
        r"FP8 context FMHA is disabled",
        "this GPU has no FP8 attention",
        f"{_BUILDER}, build",
    ),
    LogLine(
        "clamped",
        r"\[W\] .*(specifying to|clipping it to|will be ignored\.)",
        "the builder set a limit otherwise than asked",
        f"{_BUILDER}, _init_max_seq_len; `tensorrt_llm/_common.py`, check_max_num_tokens",
    ),
)
"""Lines that explain an option which ends otherwise than asked."""

STEPS = (
    LogLine(
        "network", r"Total time of constructing network from module object ", "network", _BUILDER
    ),
    LogLine(
        "engine",
        r"Total time of building (?!all engines)",
        "engine",
        f"{_BUILDER}, Builder.build_engine",
    ),
    LogLine(
        "saved",
        r"Engine serialized\. Total time: ",
        "rank file",
        "TensorRT-LLM 1.x `tensorrt_llm/_common.py`, serialize_engine",
    ),
)
"""One each per rank, in this order, at the log level `info`."""

ALL_BUILT = LogLine(
    "all-built",
    r"\[TRT-LLM\].* \[I\] Total time of building all engines: ",
    "every rank is built",
    "TensorRT-LLM 1.x `tensorrt_llm/commands/build.py`, main",
)
"""The last line of a build at the log level `info`: warnings would have been written as well."""

OUT_OF_MEMORY = LogLine(
    "gpu-memory",
    r"(?i)out of memory|outofmemory|cudaErrorMemoryAllocation",
    "the GPU has too little memory",
    "PyTorch `torch.OutOfMemoryError`; TensorRT and CUDA runtime errors",
)

OUT_OF_DISK = LogLine(
    "disk", r"No space left on device|Disk quota exceeded", "the disk is full", "Linux, errno"
)

ABORTED = LogLine(
    "assertion",
    r"\[TensorRT-LLM\]\[ERROR\] Assertion failed: ",
    "the attention plugin refused its options, which ends the process",
    "TensorRT-LLM 1.x `cpp/tensorrt_llm/common/attentionOp.cpp`: initialize is noexcept",
)

LOST_RANK = LogLine(
    "lost-rank",
    r"BrokenProcessPool: A process in the process pool was terminated abruptly",
    "a process that built a rank has ended at once, without an exception",
    "Python 3.12 `concurrent/futures/process.py`; TensorRT-LLM 1.x `commands/build.py`, "
    "parallel_build",
)

BAD_TIMING_CACHE = LogLine(
    "timing-cache",
    r"assert cache is not None|\[TRT\] \[E\].*[Tt]iming [Cc]ache",
    "TensorRT cannot read the timing cache that it was given",
    f"{_BUILDER}, create_builder_config",
)

_RANK = re.compile(
    r"\[TRT-LLM\] \[RANK (\d+)\]|^\[TensorRT-LLM\]\[\w+\]\[(\d+)\]|/rank(\d+)\.engine\b"
)


def rank_told(line: str) -> int | None:
    """The rank that a line names, or None."""
    found = _RANK.search(line)
    if found is None:
        return None
    return int(next(group for group in found.groups() if group is not None))


def find_line(known: Iterable[LogLine], line: str) -> LogLine | None:
    """The first of them that a line is, or None."""
    return next((entry for entry in known if entry.is_in(line)), None)


_DIFFERS = (
    (re.compile(r"^\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] "), ""),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "*"),
    (re.compile(r"\b\d+(\.\d+)? ?(seconds|sec|ms|us|s|MB|MiB|GiB|KiB|bytes)\b"), r"* \2"),
    (re.compile(r"0x[0-9a-f]{4,}"), "*"),
)


def without_times(line: str) -> str:
    """A line less what differs from run to run: dates, durations, memory, addresses."""
    for pattern, replacement in _DIFFERS:
        line = pattern.sub(replacement, line)
    return line
