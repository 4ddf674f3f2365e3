"""The decoder graph on ONNX Runtime's CUDA provider: buffers stay on the GPU, caches in place.

Per step the token ids and where they stand go up, and the last logits come down. Imports numpy and
onnxruntime: engines and stages import it where they execute.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pipeline.engines.batch import Sequences, Step, read_prompts
from pipeline.engines.onnxruntime.inference import (
    ERRORS,
    CachePort,
    Limits,
    cache_ports,
    failed,
    open_inference,
    session_options,
)
from pipeline.errors import MachineError, ToolFailed

PROVIDER = "CUDAExecutionProvider"
MEMORY = "cuda"
"""Where the buffers are, in ONNX Runtime's words."""

PREFILL_TOKENS = 16384
"""Tokens of one prefill step over all sequences."""

_ALIGNMENT = 256
"""Bytes: inputs that share a buffer begin at multiples of this, as CUDA's own blocks do."""

_NO_GRAPH = "-1"
"""As `gpu_graph_id` of a run: neither record nor replay (ONNX Runtime 1.31, run config keys)."""

_SHAPE_WORK = frozenset({"Range", "Shape", "Size", "Squeeze", "Unsqueeze"})
"""Operators that may run on the CPU: ONNX Runtime itself puts arithmetic of shapes there."""


def open_session(
    model: Path | bytes,
    weights_dir: Path,
    limits: Limits,
    device: str,
    *,
    uses_graphs: bool = True,
) -> CudaSession:
    """Load a decoder graph with `max_seq_len` cache slots on the first visible GPU, named `device`.

    Raises MachineError where ONNX Runtime cannot use the GPU, ToolFailed where it would leave a
    part of the work to the CPU, VerificationError where graph or rank files are damaged.
    """
    _load_libraries()
    options = session_options()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    asked = {"use_tf32": "0", "enable_cuda_graph": "1" if uses_graphs else "0"}
    providers: list[str | tuple[str, dict[str, str]]] = [(PROVIDER, asked), "CPUExecutionProvider"]
    inner = open_inference(model, weights_dir, options, providers)
    if PROVIDER not in inner.get_providers():
        raise MachineError(
            "ONNX Runtime cannot use the GPU: its CUDA provider did not load",
            hint="install the CUDA libraries that this `onnxruntime-gpu` needs, and cuDNN 9",
        )
    _check_placement(inner)
    return CudaSession(inner, limits, device, replays=uses_graphs)


def _load_libraries() -> None:
    """CUDA's libraries from Python packages where they are; raises MachineError without CUDA."""
    if PROVIDER not in ort.get_available_providers():
        raise MachineError(
            f"the installed ONNX Runtime {ort.__version__} has no CUDA provider",
            hint="install `onnxruntime-gpu` in the place of `onnxruntime`",
        )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
        ort.preload_dlls()


def _check_placement(inner: ort.InferenceSession) -> None:
    """Raise ToolFailed where nodes that compute were given to the CPU."""
    left = _placed(inner, on_gpu=False)
    slow = {name: count for name, count in left.items() if name not in _SHAPE_WORK}
    if slow:
        raise ToolFailed(
            "ONNX Runtime's CUDA provider does not take all operators of the decoder graph",
            facts=[f"{count} `{name}` on the CPU" for name, count in sorted(slow.items())],
            hint="set `engine.device: cpu`, another `checkpoint.dtype`, or use a newer "
            "`onnxruntime-gpu`",
        )


def _placed(inner: ort.InferenceSession, *, on_gpu: bool) -> Counter[str]:
    """Operators that ONNX Runtime gave to the CUDA provider, or to others."""
    return Counter(
        node.op_type
        for part in inner.get_provider_graph_assignment_info()
        if (part.ep_name == PROVIDER) is on_gpu
        for node in part.get_nodes()
    )


@dataclass(slots=True)
class _Bound:
    """A step of one token over a fixed batch, with all its buffers: only their content changes."""

    binding: ort.IOBinding
    inputs: ort.OrtValue
    places: Mapping[str, slice]
    values: NDArray[np.uint8]
    logits: ort.OrtValue
    options: ort.RunOptions


class CudaSession:
    """A `Session`: caches for the limits, of which a smaller batch uses the beginning."""

    def __init__(
        self, inner: ort.InferenceSession, limits: Limits, device: str, *, replays: bool
    ) -> None:
        self.inner = inner
        self.max_batch_size = limits.max_batch_size
        self.max_seq_len = limits.max_seq_len
        self._device = device
        self._has_graphs, self._replays = replays, replays
        self._ports = cache_ports(inner)
        self._caches = [_zeros(self._cache_bytes(port)) for port in self._ports]
        self._inputs = {port.name for port in inner.get_inputs()}
        self._vocab_size = int(_port(inner.get_outputs(), "logits").shape[-1])
        self._readings: dict[int, ort.IOBinding] = {}
        self._steps: dict[int, _Bound] = {}
        self._sequences = Sequences(limits.max_batch_size, limits.max_seq_len)

    @property
    def executed_by(self) -> Mapping[str, str]:
        """What computes, for records."""
        return {
            "backend": "onnxruntime",
            "version": ort.__version__,
            "device": self._device,
            "note": f"the engine, by ONNX Runtime {ort.__version__} on the GPU",
        }

    @property
    def num_attention_nodes(self) -> int:
        """Operators `Attention` that the CUDA provider executes as such."""
        return _placed(self.inner, on_gpu=True)["Attention"]

    def plain(self) -> CudaSession:
        """The same session, which launches every kernel itself: a replay tells no names."""
        other = copy.copy(self)
        other._replays, other._steps = False, {}
        other._sequences = copy.copy(self._sequences)
        return other

    def start(
        self, prompts: Sequence[Sequence[int]], position_offsets: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Read the prompts; logits `[batch, vocab_size]` after each one's last token.

        `position_offsets`, one per prompt, are added to `position_ids` until the next start.
        """
        self._sequences.begin(prompts, position_offsets)
        return read_prompts(prompts, PREFILL_TOKENS, self._read)

    def step(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append one token to each sequence; logits `[batch, vocab_size]` after it."""
        return self._sequences.append(token_ids, self._append)

    def _read(self, step: Step) -> NDArray[np.float32]:
        """A piece of the prompts, of any length: bound anew, and never recorded."""
        batch = len(step.input_ids)
        if batch not in self._readings:
            self._readings[batch] = self._bind(batch)
        binding = self._readings[batch]
        for name, values in self._values(step).items():
            binding.bind_cpu_input(name, values)
        binding.bind_output("logits")
        self._run(binding, self._options(None))
        logits: NDArray[np.float32] = binding.get_outputs()[-1].numpy()
        return logits

    def _append(self, step: Step) -> NDArray[np.float32]:
        """A step of one token: one upload, one replay, one download."""
        batch = len(step.input_ids)
        if batch not in self._steps:
            self._steps[batch] = self._bind_step(step)
        bound = self._steps[batch]
        for name, values in self._values(step).items():
            bound.values[bound.places[name]] = _bytes(values)
        bound.inputs.update_inplace(bound.values)
        self._run(bound.binding, bound.options)
        logits: NDArray[np.float32] = bound.logits.numpy()
        return logits

    def _values(self, step: Step) -> dict[str, NDArray[Any]]:
        return step.inputs(self._inputs, self.max_seq_len, self._sequences.offsets)

    def _bind_step(self, step: Step) -> _Bound:
        """All inputs of a step in one buffer, so that one copy carries them to the GPU."""
        batch, found = len(step.input_ids), self._values(step)
        places, size = {}, 0
        for name, values in found.items():
            places[name] = slice(size, size + values.nbytes)
            size += -(-values.nbytes // _ALIGNMENT) * _ALIGNMENT
        inputs = _zeros(size)
        binding = self._bind(batch)
        for name, values in found.items():
            address = inputs.data_ptr() + places[name].start
            binding.bind_input(name, MEMORY, 0, values.dtype.type, values.shape, address)
        shape = (batch, self._vocab_size)
        logits = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, MEMORY, 0)
        binding.bind_ortvalue_output("logits", logits)
        options = self._options(batch)
        return _Bound(binding, inputs, places, np.zeros(size, np.uint8), logits, options)

    def _options(self, graph: int | None) -> ort.RunOptions:
        """Record or replay the CUDA graph of that number; None: launch kernel by kernel."""
        options = ort.RunOptions()
        if self._has_graphs:
            number = str(graph) if self._replays and graph is not None else _NO_GRAPH
            options.add_run_config_entry("gpu_graph_id", number)
        return options

    def _bind(self, batch: int) -> ort.IOBinding:
        """Bind each cache as input and as output: `TensorScatter` then writes in place."""
        binding = self.inner.io_binding()
        for port, cache in zip(self._ports, self._caches, strict=True):
            shape = port.shape(batch, self.max_seq_len)
            place = (MEMORY, 0, port.element, shape, cache.data_ptr())
            binding.bind_input(port.past, *place)
            binding.bind_output(port.present, *place)
        return binding

    def _cache_bytes(self, port: CachePort) -> int:
        shape = port.shape(self.max_batch_size, self.max_seq_len)
        return int(np.prod(shape)) * np.dtype(port.dtype).itemsize

    def _run(self, binding: ort.IOBinding, options: ort.RunOptions) -> None:
        try:
            self.inner.run_with_iobinding(binding, options)
        except ERRORS as error:
            raise failed(error) from None


def _zeros(num_bytes: int) -> ort.OrtValue:
    """A zeroed block on the GPU: padded slots are read under the mask, and must be numbers."""
    try:
        return ort.OrtValue.ortvalue_from_numpy(np.zeros(num_bytes, np.uint8), MEMORY, 0)
    except ERRORS as error:
        raise failed(error) from None


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def _port(ports: Sequence[Any], name: str) -> Any:
    return next(port for port in ports if port.name == name)
