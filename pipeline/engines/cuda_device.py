"""Device memory for a session, by the CUDA runtime of `cuda-bindings`: one stream, few calls.

Source of the calls: cuda-bindings 12.9 to 13.5, `cuda.bindings.runtime`; each returns a tuple of
the error and its values.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pipeline.errors import ResourceError, ToolFailed


class Device:
    """The few calls of the CUDA runtime that a session needs, on one stream. Raises ToolFailed."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self.stream = self._call("cudaStreamCreate")
        self._blocks: list[Any] = []

    def allocate(self, num_bytes: int) -> int:
        """A zeroed block: padded cache slots are read under the mask, and must be numbers."""
        address = self._call("cudaMalloc", num_bytes)
        self._blocks.append(address)
        self._call("cudaMemsetAsync", address, 0, num_bytes, self.stream)
        return int(address)

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Host to device. The array must live until `synchronize`."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        size = array.nbytes
        self._call("cudaMemcpyAsync", address, array.ctypes.data, size, kind, self.stream)

    def download(self, array: NDArray[Any], address: int) -> None:
        """Device to host, complete at `synchronize`."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        size = array.nbytes
        self._call("cudaMemcpyAsync", array.ctypes.data, address, size, kind, self.stream)

    def synchronize(self) -> None:
        """Wait for all that was asked for."""
        self._call("cudaStreamSynchronize", self.stream)

    def close(self) -> None:
        """Give everything back."""
        for address in self._blocks:
            self._call("cudaFree", address)
        self._blocks.clear()
        self._call("cudaStreamDestroy", self.stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        error, *values = getattr(self._runtime, name)(*arguments)
        if error == self._runtime.cudaError_t.cudaErrorMemoryAllocation:
            raise ResourceError(
                "the GPU has not enough free memory for the engine",
                hint="use a smaller `engine.max_batch_size` or `engine.max_seq_len`",
            )
        if error != self._runtime.cudaError_t.cudaSuccess:
            raise ToolFailed(f"`{name}` failed: {error.name}")
        return values[0] if values else None
