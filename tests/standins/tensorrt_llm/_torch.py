"""What the worker uses of torch: a profiler that sees what the stand-in `LLM` "ran"."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self

torch = ModuleType("torch")
profiler = ModuleType("torch.profiler")
launched: list[str] = []
"""Kernels that were launched since the profiler began."""


@dataclass
class _Event:
    name: str
    device_type: str


class _Profile:
    def __init__(self, *, activities: list[str]) -> None:
        assert activities == ["cuda"]

    def __enter__(self) -> Self:
        launched.clear()
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def events(self) -> list[_Event]:
        """Kernels, what copies, and what ran on the processor."""
        kernels = [_Event(name, "DeviceType.CUDA") for name in launched]
        copies = [_Event("Memcpy HtoD (Pageable -> Device)", "DeviceType.CUDA")]
        return [*kernels, *copies, _Event("cudaLaunchKernel", "DeviceType.CPU")]


class _Cuda:
    @staticmethod
    def synchronize() -> None:
        """Nothing runs by itself."""


class _Activity:
    CUDA = "cuda"


_exports: dict[str, Any] = {"profile": _Profile, "ProfilerActivity": _Activity}
vars(profiler).update(_exports)
vars(torch).update(profiler=profiler, cuda=_Cuda)
