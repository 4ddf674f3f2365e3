"""What the output of a failed worker means: one row per cause, the first that matches decides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engines.exit_codes import KILLED, how_ended
from pipeline.errors import (
    MachineError,
    PipelineError,
    ResourceError,
    ToolFailed,
    VerificationError,
)

SHOWN_LINES = 20
"""Lines of a failed program's output that its error shows, from the end."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A pattern of the output, the error that it means, and where the text is from."""

    pattern: str
    kind: type[PipelineError]
    message: str
    hint: str
    source: str


_TRT = "TensorRT, 8 to 10, runtime log"
_LLM = "TensorRT-LLM, 1.2, "

FAILURES = (
    Failure(
        r"out of memory|OutOfMemory|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY",
        ResourceError,
        "the GPU ran out of memory while the engine was executed",
        "free the GPU, or build with a smaller `max_batch_size`, `max_num_tokens` or `max_seq_len`",
        "CUDA, 12 to 13, error names",
    ),
    Failure(
        r"not compatible with this version of TensorRT|[Vv]ersion tag does not match"
        r"|Expected length \(\d+\) != real length",
        MachineError,
        "the engine was built by another version of TensorRT or TensorRT-LLM than is installed",
        "build and run in the same container image",
        f"{_TRT}; {_LLM}gptAttentionCommon.cpp",
    ),
    Failure(
        r"generated on an incompatible device|expecting compute \d",
        MachineError,
        "the engine was built for another GPU architecture than this GPU has",
        "build on a GPU of the architecture that is to run it",
        _TRT,
    ),
    Failure(
        r"Failed to deserialize cuda engine|Magic tag does not match",
        VerificationError,
        "TensorRT cannot read the engine: it is damaged, or of another version",
        "build the engine again",
        f"{_TRT}; {_LLM}runtime/tllmRuntime.cpp",
    ),
    Failure(
        r"is not consistent with the engine's [tpc]p_size|MPI size \d+ != TP size",
        ToolFailed,
        "the ranks that were started are not those of the engine",
        "build the engine again, or tell us: its config.json and its files disagree",
        f"{_LLM}llmapi/llm_args.py; runtime/worldConfig.cpp",
    ),
    Failure(
        r"Only \d+ GPUs are available, but \d+ are required",
        MachineError,
        "the engine has more ranks than there are GPUs here",
        "run on a machine with one GPU for each rank",
        f"{_LLM}llmapi/llm.py",
    ),
    Failure(
        r"MPI_ERR_SPAWN|MPI_Comm_spawn|ORTE_ERROR|PRTE ERROR|not enough slots available",
        MachineError,
        "MPI could not start the engine's ranks",
        "run in NVIDIA's container, with `mpirun` of the MPI that TensorRT-LLM uses",
        "Open MPI, 4 to 5",
    ),
    Failure(
        r"NCCL error|ncclSystemError|ncclUnhandledCudaError",
        MachineError,
        "the engine's ranks could not talk to each other by NCCL",
        "give the container shared memory (`--shm-size=8g`), and see the facts",
        "NCCL, 2",
    ),
    Failure(
        r"No module named 'tensorrt_llm|cannot import name 'LLM' from 'tensorrt_llm"
        r"|No module named 'tensorrt_llm\._tensorrt_engine'",
        MachineError,
        "TensorRT-LLM with the engine workflow is not installed",
        "run in NVIDIA's container of TensorRT-LLM 1.2",
        f"{_LLM}_tensorrt_engine/__init__.py",
    ),
    Failure(
        r"lib(mpi|nvinfer|cublas|cudart|nccl)[A-Za-z0-9_]*\.so[.0-9]*: cannot open shared object",
        MachineError,
        "a library that TensorRT-LLM needs is not installed",
        "run in NVIDIA's container of TensorRT-LLM 1.2",
        "glibc, 2, dynamic loader",
    ),
    Failure(
        r"CUDA driver version is insufficient|no CUDA-capable device|forward compatibility",
        MachineError,
        "the driver of this machine does not run this version of CUDA",
        "install a newer driver",
        "CUDA, 12 to 13, error texts",
    ),
    Failure(
        r"got invalid argument: |unexpected keyword argument|validation errors? for ",
        ToolFailed,
        "this TensorRT-LLM does not take an argument that its 1.2 line takes",
        "`trtllm-pack doctor` shows where the installed version differs",
        f"{_LLM}llmapi/llm.py",
    ),
)


def worker_failure(code: int | None, lines: Sequence[str], timeout_s: float) -> PipelineError:
    """The error of a worker that gave no whole answer; `code` is None at the time-out.

    `lines` are what it and all that it started printed.
    """
    facts = without_frames(lines)[-SHOWN_LINES:]
    if code is None:
        return ToolFailed(
            f"the engine gave no answer within {timeout_s:g} s",
            facts=facts,
            hint="raise `smoke.timeout_s`, or see in the facts where it waits",
        )
    for row in FAILURES:
        line = next((line for line in lines if re.search(row.pattern, line)), None)
        if line is not None:
            shown = facts if line in facts else [line.strip(), *facts]
            return row.kind(row.message, facts=shown, hint=row.hint)
    if code in KILLED:
        return ResourceError(
            "the engine's worker was killed, most likely for want of memory",
            facts=facts,
            hint="run on a machine with more memory, or raise the container's limit",
        )
    return ToolFailed(
        f"the engine's worker ended with {how_ended(code)} and no answer", facts=facts
    )


def without_frames(lines: Sequence[str]) -> list[str]:
    """Without the stacks of Python's tracebacks: the exceptions they end with say what is wrong."""
    kept, in_stack = [], False
    for line in lines:
        in_stack = line.startswith("Traceback (most recent") or (in_stack and line[:1] == " ")
        if not in_stack:
            kept.append(line)
    return kept
