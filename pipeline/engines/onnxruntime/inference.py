"""Opening a decoder graph on ONNX Runtime, on any provider, and what its ports say of its caches.

Imports onnxruntime: engines and stages import it where they execute.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from pipeline.errors import PipelineError, ResourceError, ToolFailed, VerificationError

ERRORS: tuple[type[Exception], ...] = (
    *(
        kind
        for kind in vars(ort_errors).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
    RuntimeError,
)
"""All that ONNX Runtime raises: unrelated classes, one per status code.

A run with bound inputs and outputs raises RuntimeError, whatever the status.
"""

ELEMENTS: Mapping[str, tuple[int, type[np.generic]]] = {
    "tensor(float)": (1, np.float32),
    "tensor(float16)": (10, np.float16),
    "tensor(bfloat16)": (16, np.uint16),  # its bits: numpy has no such type
}
"""Type of a port -> its number in ONNX (`TensorProto.DataType`), and how numpy holds it."""

_FOLDER_KEY = "session.model_external_initializers_file_folder_path"

_PAST, _PRESENT = "past_", "present_"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session accepts."""

    max_batch_size: int
    max_seq_len: int


@dataclass(frozen=True, slots=True)
class CachePort:
    """Keys or values of one layer: the input that holds them, and the output that updates them.

    `dims` has a name where a dim is dynamic; the first is the batch, the last but one the slots.
    """

    past: str
    present: str
    dims: tuple[int | str, ...]
    element: int
    dtype: type[np.generic]

    def shape(self, batch: int, num_slots: int) -> tuple[int, ...]:
        """The dims of a buffer."""
        inner = [int(dim) for dim in self.dims[1:-2]]
        return (batch, *inner, num_slots, int(self.dims[-1]))


def cache_ports(inner: ort.InferenceSession) -> tuple[CachePort, ...]:
    """The caches of a decoder graph; they may differ from layer to layer, keys and values apart."""
    return tuple(
        CachePort(
            port.name,
            port.name.replace(_PAST, _PRESENT, 1),
            tuple(port.shape),
            *ELEMENTS[port.type],
        )
        for port in inner.get_inputs()
        if port.name.startswith(_PAST)
    )


def session_options(profile_prefix: Path | None = None) -> ort.SessionOptions:
    """Options for results that repeat, on all CPUs of this process, and no output."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = _num_cpus()
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # fatal: errors are raised, and need not be printed too
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    return options


def _num_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_inference(
    model: Path | bytes,
    weights_dir: Path,
    options: ort.SessionOptions,
    providers: Sequence[str | tuple[str, dict[str, str]]],
) -> ort.InferenceSession:
    """Load a decoder graph whose rank files lie in `weights_dir`.

    Raises VerificationError where graph or rank files are not what they should be, ResourceError
    where they do not fit.
    """
    data = model if isinstance(model, bytes) else model.read_bytes()
    options.add_session_config_entry(_FOLDER_KEY, str(weights_dir))
    try:
        return ort.InferenceSession(data, options, providers=list(providers))
    except ERRORS as error:
        raise out_of_memory(error) or VerificationError(
            f"ONNX Runtime refuses the decoder graph: {first_line(error)}",
            hint="build the engine again",
        ) from None


def failed(error: Exception) -> PipelineError:
    """What an error of a running session means."""
    return out_of_memory(error) or ToolFailed(f"ONNX Runtime failed: {first_line(error)}")


def out_of_memory(error: Exception) -> ResourceError | None:
    """The error as one of memory, where ONNX Runtime's text says so; it has no class for it."""
    text = str(error).lower()
    told = ("bad_alloc", "failed to allocate", "out of memory")
    if not any(words in text for words in told):
        return None
    return ResourceError(
        "out of memory while executing the decoder graph",
        hint="use a machine with more memory, or a smaller `max_batch_size` or `max_seq_len`",
    )


def first_line(error: Exception) -> str:
    """An error of ONNX Runtime without the stack of its frames."""
    return str(error).splitlines()[0]
