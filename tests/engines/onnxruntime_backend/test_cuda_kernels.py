"""CUPTI by its callbacks: everything but the library itself, which needs a GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.onnxruntime import cuda_kernels
from pipeline.engines.onnxruntime.cuda_kernels import CannotTrace, launched_kernels, why_no_trace

MANGLED = b"_ZN11onnxruntime4cuda42ConvertNonpadKvSeqlenToFlashSeqlensKKernelEPKlPiii"
DEMANGLED = (
    "onnxruntime::cuda::ConvertNonpadKvSeqlenToFlashSeqlensKKernel(long const*, int*, int, int)"
)


class Cupti:
    """The functions that are called, and a way to tell of a call as CUPTI does."""

    def __init__(self, answers: dict[str, int] | None = None) -> None:
        self.answers, self.calls = answers or {}, []
        self.callback: Callable[..., None] | None = None

    def cuptiSubscribe(self, _subscriber: Any, callback: Any, _user: None) -> int:  # noqa: N802
        self.callback = callback
        return self._told("cuptiSubscribe")

    def cuptiEnableDomain(self, enable: int, _subscriber: Any, domain: int) -> int:  # noqa: N802
        return self._told("cuptiEnableDomain", enable, domain)

    def cuptiUnsubscribe(self, _subscriber: Any) -> int:  # noqa: N802
        return self._told("cuptiUnsubscribe")

    def _told(self, name: str, *arguments: int) -> int:
        self.calls.append((name, *arguments))
        return self.answers.get(name, 0)

    def tell(self, function: bytes, symbol: bytes | None, site: int = 0) -> None:
        data = cuda_kernels._CallbackData(site, function, None, None, symbol)
        assert self.callback is not None
        self.callback(None, 1, 307, ctypes.pointer(data))


@pytest.fixture
def cupti(monkeypatch: pytest.MonkeyPatch) -> Cupti:
    library = Cupti()
    use(monkeypatch, library)
    return library


def use(monkeypatch: pytest.MonkeyPatch, library: Cupti) -> None:
    load = ctypes.CDLL
    monkeypatch.setattr(cuda_kernels, "_find_library", lambda: "/there/libcupti.so")
    monkeypatch.setattr(
        ctypes, "CDLL", lambda path: library if path == "/there/libcupti.so" else load(path)
    )


def test_launches_are_named_once_and_demangled(cupti: Cupti) -> None:
    def run() -> None:
        cupti.tell(b"cuLaunchKernel", MANGLED)
        cupti.tell(b"cuLaunchKernelEx", b"cudnn_generated_sdpa")
        cupti.tell(b"cudaLaunchKernel_v7000", MANGLED)
        cupti.tell(b"cuLaunchKernel", b"after the call", site=1)
        cupti.tell(b"cuMemcpyDtoHAsync_v2", b"never read")
        cupti.tell(b"cuLaunchHostFunc", None)

    assert launched_kernels(run) == ["cudnn_generated_sdpa", DEMANGLED]
    assert cupti.calls == [
        ("cuptiSubscribe",),
        ("cuptiEnableDomain", 1, 1),
        ("cuptiEnableDomain", 1, 2),
        ("cuptiUnsubscribe",),
    ]


def test_it_ends_with_what_it_watches(cupti: Cupti) -> None:
    def run() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        launched_kernels(run)
    assert cupti.calls[-1] == ("cuptiUnsubscribe",)


def test_another_subscriber_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """39 is what CUPTI answers where torch's profiler has been used in this process."""
    use(monkeypatch, Cupti({"cuptiSubscribe": 39}))
    with pytest.raises(CannotTrace, match="`cuptiSubscribe` of CUPTI answered 39"):
        launched_kernels(lambda: None)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_kernels, "_find_library", lambda: None)
    assert why_no_trace() == "CUPTI is not installed (`nvidia-cuda-cupti`)"
    with pytest.raises(CannotTrace, match="CUPTI is not installed"):
        launched_kernels(lambda: None)


def test_the_package_is_found_before_the_toolkit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("toolkit", "nvidia/cu13/lib"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "libcupti.so.13").touch()
    (tmp_path / "nvidia" / "__init__.py").touch()
    monkeypatch.setattr(cuda_kernels, "_TOOLKIT", tmp_path / "toolkit")
    monkeypatch.setattr(cuda_kernels, "find_spec", lambda _name: None)
    assert cuda_kernels._find_library() == str(tmp_path / "toolkit" / "libcupti.so.13")
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path / "nvidia")]})
    monkeypatch.setattr(cuda_kernels, "find_spec", lambda _name: spec)
    found = cuda_kernels._find_library()
    assert found == str(tmp_path / "nvidia" / "cu13" / "lib" / "libcupti.so.13")
