"""Running a TensorRT engine on a GPU: device buffers, caches in place, two profiles.

Needs a GPU among the engine's targets and `cuda-bindings`. It was never executed by us on such a
GPU: the tests check every name against the installed bindings, and run this module on stand-ins
whose "device" is host memory and whose engine is ONNX Runtime. Imports numpy, as all sessions do.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.engines.batch import Sequences, Step, read_prompts
from pipeline.engines.cuda_device import Device
from pipeline.engines.tensorrt.api import Flavour, load_api
from pipeline.engines.tensorrt.limits import Limits, read_limits
from pipeline.engines.tensorrt.record import ENGINE_NAME
from pipeline.engines.tensorrt.refit import refit
from pipeline.errors import MachineError, ResourceError, ToolFailed, VerificationError

CONTEXT, GENERATION = 0, 1
"""Optimisation profiles, in the order in which the build adds them."""


def open_session(engine_dir: Path, checkpoint_dir: Path, flavour: Flavour) -> TensorRTSession:
    """Deserialize an engine on the current GPU; weights that it lacks come from `checkpoint_dir`.

    Raises VerificationError where the folder is not an engine or the weights are missing,
    MachineError where TensorRT refuses the engine on this GPU.
    """
    limits = read_limits(engine_dir)
    from cuda.bindings import runtime

    data = _map_engine(engine_dir / ENGINE_NAME)
    trt = load_api(flavour)
    log = _error_log(trt)
    loader = trt.Runtime(log)
    # A version-compatible engine brings the code that runs it; its digest was checked before.
    loader.engine_host_code_allowed = limits.version_compatible
    engine = loader.deserialize_cuda_engine(data)
    if engine is None:
        raise MachineError(
            f"{flavour.title} refuses the engine in `{engine_dir}` on this GPU", facts=log.lines
        )
    if limits.strip_weights:
        refit(trt, engine, log, engine_dir, limits.weight_files, checkpoint_dir)
    return TensorRTSession(engine, Device(runtime), limits, flavour.title, (log, loader, data))


def _map_engine(path: Path) -> mmap.mmap:
    """Mapped, not read: the weights go from the page cache to the device."""
    try:
        with path.open("rb") as stream:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise VerificationError(f"`{path}` is not an engine: {error}") from None


def _error_log(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.lines.append(message)

    return Log()


class TensorRTSession:
    """A `Session`: past and present of each cache are one buffer, which the engine updates."""

    def __init__(
        self, engine: Any, device: Device, limits: Limits, title: str, needed: Sequence[Any] = ()
    ) -> None:
        self._needed = needed  # what TensorRT wants alive as long as the engine
        self.max_batch_size = limits.max_batch_size
        self.max_seq_len = limits.max_seq_len
        self._context_tokens = limits.context_tokens
        self._title = title
        self._engine, self._device = engine, device
        self._context = engine.create_execution_context()
        if self._context is None:
            raise ResourceError("TensorRT cannot create an execution context on this GPU")
        self._profile: int | None = None
        self._sequences = Sequences(limits.max_batch_size, limits.max_seq_len)
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        self._caches = [name for name in names if name.startswith("past_")]
        self._inputs = {name for name in names if name not in self._caches}
        self._vocab_size = int(engine.get_tensor_shape("logits")[-1])
        self._addresses = self._allocate(names)

    @property
    def executed_by(self) -> Mapping[str, str]:
        """What computes, for records."""
        return {
            "backend": "tensorrt",
            "version": self._title,
            "device": "cuda",
            "note": f"the engine itself, by {self._title} on the GPU",
        }

    def start(
        self, prompts: Sequence[Sequence[int]], position_offsets: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Read the prompts; logits `[batch, vocab_size]` after each one's last token.

        `position_offsets`, one per prompt, are added to `position_ids` until the next start.
        """
        self._sequences.begin(prompts, position_offsets)
        most = self._context_tokens * len(prompts)
        return read_prompts(prompts, most, lambda step: self._run(step, CONTEXT))

    def step(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append one token to each sequence; logits `[batch, vocab_size]` after it."""
        return self._sequences.append(token_ids, lambda step: self._run(step, GENERATION))

    def close(self) -> None:
        """Free the device memory."""
        self._device.close()

    def _allocate(self, names: Sequence[str]) -> dict[str, int]:
        """Buffers for the limits, each port of its own shape; a present cache is its past."""
        addresses = {}
        aliased = {name: self._engine.get_aliased_input_tensor(name) for name in names}
        for name in names:
            if aliased[name] is None:
                dims = self._largest(name)
                size = self._engine.get_tensor_dtype(name).itemsize
                addresses[name] = self._device.allocate(int(np.prod(dims)) * int(size))
        for name, past in aliased.items():
            if past is not None:
                addresses[name] = addresses[past]
        for name, address in addresses.items():
            self._check(self._context.set_tensor_address(name, address), name)
        return addresses

    def _largest(self, name: str) -> tuple[int, ...]:
        if name == "logits":
            return (self.max_batch_size, self._vocab_size)
        least_best_most = self._engine.get_tensor_profile_shape(name, CONTEXT)
        return tuple(least_best_most[2])

    def _run(self, step: Step, profile: int) -> NDArray[np.float32]:
        """Execute one step: inputs up, one enqueue, logits down."""
        batch = len(step.input_ids)
        self._use_profile(profile)
        inputs = step.inputs(self._inputs, self.max_seq_len, self._sequences.offsets)
        for name, array in inputs.items():
            self._check(self._context.set_input_shape(name, array.shape), name)
            self._device.upload(self._addresses[name], array)
        for name in self._caches:
            dims = (batch, *self._largest(name)[1:])
            self._check(self._context.set_input_shape(name, dims), name)
        self._check(self._context.execute_async_v3(int(self._device.stream)), "execution")
        logits = np.empty((batch, self._vocab_size), dtype=np.float32)
        self._device.download(logits, self._addresses["logits"])
        self._device.synchronize()
        return logits

    def _use_profile(self, profile: int) -> None:
        if profile != self._profile:
            stream = int(self._device.stream)
            self._check(self._context.set_optimization_profile_async(profile, stream), "profile")
            self._profile = profile

    def _check(self, done: bool, what: str) -> None:
        if not done:
            raise ToolFailed(f"TensorRT refuses `{what}` of the engine")
