"""The decoder graph on ONNX Runtime's CPU provider, its KV cache updated in place.

Imports numpy and onnxruntime: engines and stages import it where they execute.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from pipeline.engines.batch import Ids, Step, decode_step, prefill_steps
from pipeline.errors import ResourceError, ToolFailed, VerificationError

PREFILL_TOKENS = 1024
"""Tokens of one prefill step over all sequences: enough to keep the matrix kernels busy."""

SLOTS_STEP = 64
"""Cache slots are given out in multiples of this."""

_ERRORS = tuple(
    kind
    for kind in vars(ort_errors).values()
    if isinstance(kind, type) and issubclass(kind, Exception)
)
"""All that ONNX Runtime raises: unrelated classes, one per status code."""

_FOLDER_KEY = "session.model_external_initializers_file_folder_path"

Cache = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session accepts."""

    max_batch_size: int
    max_seq_len: int


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


def open_session(
    model: Path | bytes,
    weights_dir: Path,
    limits: Limits,
    options: ort.SessionOptions | None = None,
) -> CpuSession:
    """Load a float32 decoder graph with dynamic cache slots; rank files lie in `weights_dir`.

    Raises VerificationError where graph or rank files are not what they should be.
    """
    options = options or session_options()
    data = model if isinstance(model, bytes) else model.read_bytes()
    options.add_session_config_entry(_FOLDER_KEY, str(weights_dir))
    try:
        inner = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except _ERRORS as error:
        raise _out_of_memory(error) or VerificationError(
            f"ONNX Runtime refuses the decoder graph: {_first_line(error)}",
            hint="build the engine again",
        ) from None
    return CpuSession(inner, limits)


class CpuSession:
    """A `Session`: one batch of sequences, its caches shared between input and output."""

    def __init__(self, inner: ort.InferenceSession, limits: Limits) -> None:
        self.inner = inner
        self.max_batch_size = limits.max_batch_size
        self.max_seq_len = limits.max_seq_len
        ports = {port.name: port for port in inner.get_inputs()}
        self._cache_names = [
            name.removeprefix("past_") for name in ports if name.startswith("past_")
        ]
        self._num_kv_heads, self._head_size = ports["past_key.0"].shape[1::2]
        self._uses_mask = "mask" in ports
        self._caches: list[Cache] = []
        self._binding = inner.io_binding()
        self._lengths: Ids = np.zeros(0, dtype=np.int64)

    @property
    def executed_by(self) -> Mapping[str, str]:
        """What computes, for records."""
        return {
            "backend": "onnxruntime",
            "version": ort.__version__,
            "device": "cpu",
            "note": f"the engine, in float32 by ONNX Runtime {ort.__version__} on the CPU",
        }

    def start(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Read the prompts; logits `[batch, vocab_size]` after each one's last token."""
        assert 1 <= len(prompts) <= self.max_batch_size
        self._lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
        assert 1 <= self._lengths.min() <= self._lengths.max() <= self.max_seq_len
        self._caches = []
        self._reserve(len(prompts), int(self._lengths.max()) + 1)
        result: NDArray[np.float32] | None = None
        for step in prefill_steps(prompts, PREFILL_TOKENS):
            logits = self._run(step)
            result = logits if result is None else result
            result[step.finished_rows] = logits[step.finished_rows]
        assert result is not None
        return result

    def step(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append one token to each sequence; logits `[batch, vocab_size]` after it."""
        assert len(token_ids) == len(self._lengths)
        at = np.minimum(self._lengths, self.max_seq_len - 1)  # a full sequence is padding now
        step = decode_step(token_ids, at)
        self._reserve(len(token_ids), step.slots_needed)
        logits = self._run(step)
        self._lengths = at + 1
        return logits

    def _reserve(self, batch: int, num_slots: int) -> None:
        """Have at least `num_slots` cache slots: grown by half, what is in them kept."""
        have = self._caches[0].shape[2] if self._caches else 0
        if num_slots <= have:
            return
        wanted = max(num_slots, have * 3 // 2)
        rounded = -(-wanted // SLOTS_STEP) * SLOTS_STEP
        shape = (batch, self._num_kv_heads, min(rounded, self.max_seq_len), self._head_size)
        grown = []
        for index in range(len(self._cache_names)):
            cache = np.zeros(shape, dtype=np.float32)
            if have:
                cache[:, :, :have] = self._caches[index]
            grown.append(cache)
        self._caches = grown
        self._bind_caches()

    def _bind_caches(self) -> None:
        """Bind each cache as input and as output: `TensorScatter` then writes in place."""
        self._binding = self.inner.io_binding()
        for name, cache in zip(self._cache_names, self._caches, strict=True):
            place = ("cpu", 0, np.float32, cache.shape, cache.ctypes.data)
            self._binding.bind_input(f"past_{name}", *place)
            self._binding.bind_output(f"present_{name}", *place)

    def _run(self, step: Step) -> NDArray[np.float32]:
        num_slots = self._caches[0].shape[2]
        inputs: dict[str, NDArray[Any]] = {
            "input_ids": step.input_ids,
            "position_ids": step.position_ids,
            "write_indices": step.write_indices,
            "last_index": step.last_index,
        }
        if self._uses_mask:
            inputs["mask"] = step.mask(num_slots)
        else:
            inputs["nonpad_kv_seqlen"] = step.nonpad_kv_seqlen()
        for name, value in inputs.items():
            self._binding.bind_cpu_input(name, value)
        self._binding.bind_output("logits")
        try:
            self.inner.run_with_iobinding(self._binding)
        except _ERRORS as error:
            raise _out_of_memory(error) or ToolFailed(
                f"ONNX Runtime failed: {_first_line(error)}"
            ) from None
        logits: NDArray[np.float32] = self._binding.get_outputs()[-1].numpy()
        return logits


def _out_of_memory(error: Exception) -> ResourceError | None:
    """The error as one of memory, where ONNX Runtime's text says so; it has no class for it."""
    text = str(error).lower()
    if "bad_alloc" not in text and "failed to allocate" not in text:
        return None
    return ResourceError(
        "out of memory while executing the decoder graph",
        hint="use a machine with more memory, or a smaller `max_batch_size` or `max_seq_len`",
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
