"""Stand-ins for a GPU: its "device" is host memory, its engine ONNX Runtime, or only ports.

They take the calls of the CUDA runtime and of TensorRT as a GPU would, so that shapes, addresses,
profiles, order and numbers are tested; the names of the calls are checked on the real packages.
"""

from __future__ import annotations

import ctypes
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort

SLOTS, CONTEXT_TOKENS, BATCH = 32, 4, 3
"""Of all stand-ins: cache slots, tokens of a context step, sequences."""


class Status(Enum):
    cudaSuccess = 0  # noqa: N815 - as in CUDA
    cudaErrorMemoryAllocation = 2  # noqa: N815


class HostRuntime:
    """`cuda.bindings.runtime` on host memory, which it counts."""

    cudaError_t = Status  # noqa: N815 - as in CUDA
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.blocks: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self, "_" + name)

    def _cudaStreamCreate(self) -> tuple[Status, int]:  # noqa: N802
        return Status.cudaSuccess, 77

    def _cudaStreamSynchronize(self, stream: int) -> tuple[Status]:  # noqa: N802
        assert stream == 77
        return (Status.cudaSuccess,)

    _cudaStreamDestroy = _cudaStreamSynchronize  # noqa: N815

    def _cudaMalloc(self, size: int) -> tuple[Status, int | None]:  # noqa: N802
        self.room -= size
        if self.room < 0:
            return Status.cudaErrorMemoryAllocation, None
        block = (ctypes.c_uint8 * size)(*([255] * min(size, 64)))
        self.blocks[ctypes.addressof(block)] = block
        return Status.cudaSuccess, ctypes.addressof(block)

    def _cudaFree(self, address: int) -> tuple[Status]:  # noqa: N802
        del self.blocks[address]
        return (Status.cudaSuccess,)

    def _cudaMemsetAsync(  # noqa: N802
        self, address: int, value: int, count: int, stream: int
    ) -> tuple[Status]:
        ctypes.memset(address, value, count)
        return (Status.cudaSuccess,)

    def _cudaMemcpyAsync(  # noqa: N802
        self, to: int, origin: int, count: int, kind: int, stream: int
    ) -> tuple[Status]:
        ctypes.memmove(to, origin, count)
        return (Status.cudaSuccess,)


class HostEngine:
    """`ICudaEngine` and `IExecutionContext` in one, executing the graph from raw addresses."""

    def __init__(self, folder: Path) -> None:
        self.inner = ort.InferenceSession(folder / "decoder.onnx")
        self.ports = {port.name: port for port in self.inner.get_inputs()}
        self.outputs = {port.name: port for port in self.inner.get_outputs()}
        self.names = [*self.ports, *self.outputs]
        self.num_io_tensors = len(self.names)
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.profiles: list[int] = []
        self.steps: list[tuple[int, ...]] = []

    def create_execution_context(self) -> HostEngine:
        return self

    def get_tensor_name(self, number: int) -> str:
        return self.names[number]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        port = (self.ports | self.outputs)[name]
        return tuple(dim if isinstance(dim, int) else -1 for dim in port.shape)

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        sizes = {"tensor(int64)": 8, "tensor(bool)": 1, "tensor(float)": 4}
        return SimpleNamespace(itemsize=sizes[(self.ports | self.outputs)[name].type])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        sizes = {"batch": BATCH, "seq": CONTEXT_TOKENS if profile == 0 else 1}
        largest = tuple(sizes.get(dim, dim) for dim in self.ports[name].shape)
        return [(), (), largest]

    def get_aliased_input_tensor(self, name: str) -> str | None:
        return name.replace("present_", "past_") if name.startswith("present_") else None

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.names

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        limit = self.get_tensor_profile_shape(name, self.profiles[-1])[2]
        self.shapes[name] = tuple(shape)
        return all(size <= most for size, most in zip(shape, limit, strict=True))

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        self.profiles.append(number)
        return stream == 77

    def execute_async_v3(self, stream: int) -> bool:
        assert all(
            self.addresses[name] == self.addresses[name.replace("present_", "past_")]
            for name in self.outputs
            if name.startswith("present_")
        ), "KVCacheUpdate works in place"
        self.steps.append(self.shapes["input_ids"])
        made = self.inner.run(None, {name: self._view(name) for name in self.ports})
        for name, value in zip(self.outputs, made, strict=True):
            ctypes.memmove(self.addresses[name], value.ctypes.data, value.nbytes)
        return stream == 77

    def _view(self, name: str) -> Any:
        dtypes = {"tensor(int64)": np.int64, "tensor(bool)": np.bool_, "tensor(float)": np.float32}
        dtype = np.dtype(dtypes[self.ports[name].type])
        shape = self.shapes[name]
        size = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_uint8 * size).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype=dtype).reshape(shape).copy()


class PortsEngine:
    """An engine whose caches differ from layer to layer, and keys from values; layer 1 has none."""

    ports: ClassVar[dict[str, tuple[int, tuple[int, ...]]]] = {
        "input_ids": (8, (BATCH, CONTEXT_TOKENS)),
        "past_key.0": (2, (BATCH, 2, SLOTS, 24)),
        "past_value.0": (2, (BATCH, 2, SLOTS, 16)),
        "past_key.2": (2, (BATCH, 6, SLOTS, 16)),
        "past_value.2": (2, (BATCH, 6, SLOTS, 16)),
        "logits": (4, (BATCH, 99)),
    }
    aliases: ClassVar[dict[str, str]] = {
        name.replace("past", "present"): name for name in ports if name.startswith("past")
    }

    def __init__(self) -> None:
        self.names = [*self.ports, *self.aliases]
        self.num_io_tensors = len(self.names)
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def create_execution_context(self) -> PortsEngine:
        return self

    def get_tensor_name(self, number: int) -> str:
        return self.names[number]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.ports[name][1]

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(itemsize=self.ports[name][0])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(), (), self.ports[name][1]]

    def get_aliased_input_tensor(self, name: str) -> str | None:
        return self.aliases.get(name)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return True

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        return True

    def execute_async_v3(self, stream: int) -> bool:
        return True
