"""The decoder graph on ONNX Runtime's CPU provider, its KV cache updated in place.

Imports numpy and onnxruntime: engines and stages import it where they execute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pipeline.engines.batch import Sequences, Step, prefill_steps, read_prompts
from pipeline.engines.onnxruntime.inference import (
    ERRORS,
    Limits,
    cache_ports,
    failed,
    open_inference,
    session_options,
)

__all__ = ["PREFILL_TOKENS", "CpuSession", "Limits", "open_session", "session_options"]

PREFILL_TOKENS = 1024
"""Tokens of one prefill step over all sequences: enough to keep the matrix kernels busy."""

SLOTS_STEP = 64
"""Cache slots are given out in multiples of this."""

Cache = NDArray[Any]


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
    inner = open_inference(model, weights_dir, options, ["CPUExecutionProvider"])
    return CpuSession(inner, limits)


class CpuSession:
    """A `Session`: one batch of sequences, its caches shared between input and output."""

    def __init__(self, inner: ort.InferenceSession, limits: Limits) -> None:
        self.inner = inner
        self.max_batch_size = limits.max_batch_size
        self.max_seq_len = limits.max_seq_len
        self._ports = cache_ports(inner)
        self._inputs = {port.name for port in inner.get_inputs()}
        self._num_slots = 0
        self._caches: list[Cache] = []
        self._binding = inner.io_binding()
        self._sequences = Sequences(limits.max_batch_size, limits.max_seq_len)

    @property
    def executed_by(self) -> Mapping[str, str]:
        """What computes, for records."""
        return {
            "backend": "onnxruntime",
            "version": ort.__version__,
            "device": "cpu",
            "note": f"the engine, in float32 by ONNX Runtime {ort.__version__} on the CPU",
        }

    def start(
        self, prompts: Sequence[Sequence[int]], position_offsets: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Read the prompts; logits `[batch, vocab_size]` after each one's last token.

        `position_offsets`, one per prompt, are added to `position_ids` until the next start.
        """
        self._begin(prompts, position_offsets)
        return read_prompts(prompts, PREFILL_TOKENS, self._run)

    def read(
        self, prompts: Sequence[Sequence[int]], position_offsets: Sequence[int] | None = None
    ) -> list[NDArray[np.float32]]:
        """As `start`, of a graph that gives logits of all tokens: `[tokens, vocab_size]` each."""
        self._begin(prompts, position_offsets)
        pieces = [self._run(step) for step in prefill_steps(prompts, PREFILL_TOKENS)]
        logits = np.concatenate(pieces, axis=1)  # [batch, longest prompt, vocab_size]
        return [row[: len(prompt)] for row, prompt in zip(logits, prompts, strict=True)]

    def _begin(
        self, prompts: Sequence[Sequence[int]], position_offsets: Sequence[int] | None
    ) -> None:
        self._sequences.begin(prompts, position_offsets)
        self._caches, self._num_slots = [], 0
        self._reserve(len(prompts), int(self._sequences.lengths.max()) + 1)

    def step(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append one token to each sequence; logits `[batch, vocab_size]` after it."""
        logits = self._sequences.append(token_ids, self._grow_and_run)
        return logits[:, -1] if logits.ndim == 3 else logits

    def _grow_and_run(self, step: Step) -> NDArray[np.float32]:
        self._reserve(len(step.input_ids), step.slots_needed)
        return self._run(step)

    def _reserve(self, batch: int, num_slots: int) -> None:
        """Have at least `num_slots` cache slots: grown by half, what is in them kept."""
        have = self._num_slots
        if num_slots <= have:
            return
        wanted = max(num_slots, have * 3 // 2)
        rounded = -(-wanted // SLOTS_STEP) * SLOTS_STEP
        self._num_slots = min(rounded, self.max_seq_len)
        grown = []
        for index, port in enumerate(self._ports):
            cache = np.zeros(port.shape(batch, self._num_slots), dtype=port.dtype)
            if have:
                cache[..., :have, :] = self._caches[index]
            grown.append(cache)
        self._caches = grown
        self._bind_caches()

    def _bind_caches(self) -> None:
        """Bind each cache as input and as output: `TensorScatter` then writes in place."""
        self._binding = self.inner.io_binding()
        for port, cache in zip(self._ports, self._caches, strict=True):
            place = ("cpu", 0, cache.dtype.type, cache.shape, cache.ctypes.data)
            self._binding.bind_input(port.past, *place)
            self._binding.bind_output(port.present, *place)

    def _run(self, step: Step) -> NDArray[np.float32]:
        inputs = step.inputs(self._inputs, self._num_slots, self._sequences.offsets)
        for name, value in inputs.items():
            self._binding.bind_cpu_input(name, value)
        self._binding.bind_output("logits")
        try:
            self.inner.run_with_iobinding(self._binding)
        except ERRORS as error:
            raise failed(error) from None
        logits: NDArray[np.float32] = self._binding.get_outputs()[-1].numpy()
        return logits
