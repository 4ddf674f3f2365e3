"""Names of the CUDA kernels that this process launches, by CUPTI's callbacks: no torch is needed.

CUPTI tells of each launch before it happens, from whichever thread. Launches that a CUDA graph
replays are not told: trace without. Source of names and numbers: CUPTI of CUDA 12.8 and 13.0,
`cupti_callbacks.h`, `cupti_result.h`; the library is in the package `nvidia-cuda-cupti`, which
torch brings too, and in every CUDA toolkit.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.errors import ToolFailed

_LIBRARY = "libcupti.so"
_TOOLKIT = Path("/usr/local/cuda/extras/CUPTI/lib64")
_DOMAINS = (1, 2)
"""CUPTI_CB_DOMAIN_DRIVER_API and CUPTI_CB_DOMAIN_RUNTIME_API."""

_ENTER = 0
"""CUPTI_API_ENTER: the call has not been made yet."""

_LAUNCHES = (b"cuLaunch", b"cudaLaunch")
"""Beginnings of the calls for which CUPTI fills in the kernel's symbol."""


class _CallbackData(ctypes.Structure):
    """The beginning of CUpti_CallbackData."""

    _fields_ = (
        ("site", ctypes.c_int),
        ("function", ctypes.c_char_p),
        ("parameters", ctypes.c_void_p),
        ("result", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
    )


_Callback = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.POINTER(_CallbackData)
)


class CannotTrace(ToolFailed):
    """CUPTI is not there, or does not answer: nothing is known of the kernels."""


def why_no_trace() -> str | None:
    """Why kernels cannot be named on this machine, or None."""
    return None if _find_library() is not None else "CUPTI is not installed (`nvidia-cuda-cupti`)"


def launched_kernels(run: Callable[[], None]) -> list[str]:
    """Distinct kernels that this process launched during `run`: demangled names, sorted.

    Raises CannotTrace where CUPTI is not there, or watches for somebody else already.
    """
    symbols: set[bytes] = set()
    with _watched(symbols):
        run()
    return sorted({_demangled(symbol) for symbol in symbols})


@contextmanager
def _watched(symbols: set[bytes]) -> Iterator[None]:
    """While this is open, the symbols of launched kernels are added to `symbols`."""
    path = _find_library()
    if path is None:
        raise CannotTrace(f"kernels cannot be named: {why_no_trace()}")
    library = ctypes.CDLL(path)

    def on_call(_user: Any, _domain: int, _number: int, data: Any) -> None:
        call = data.contents
        if call.site == _ENTER and call.function.startswith(_LAUNCHES) and call.symbol:
            symbols.add(call.symbol)

    callback, subscriber = _Callback(on_call), ctypes.c_void_p()
    _check(library.cuptiSubscribe(ctypes.byref(subscriber), callback, None), "cuptiSubscribe")
    try:
        for domain in _DOMAINS:
            _check(library.cuptiEnableDomain(1, subscriber, domain), "cuptiEnableDomain")
        yield
    finally:
        _check(library.cuptiUnsubscribe(subscriber), "cuptiUnsubscribe")


def _check(code: int, call: str) -> None:
    if code != 0:
        raise CannotTrace(f"kernels cannot be named: `{call}` of CUPTI answered {code}")


def _find_library() -> str | None:
    """CUPTI: of Python's packages, of the toolkit, or where the loader finds it."""
    spec = find_spec("nvidia")
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    for folder in folders:
        found = sorted(folder.glob(f"*/lib/{_LIBRARY}*"))
        if found:
            return str(found[-1])
    found = sorted(_TOOLKIT.glob(f"{_LIBRARY}*"))
    return str(found[0]) if found else ctypes.util.find_library("cupti")


def _demangled(symbol: bytes) -> str:
    """A C++ symbol as it is written in source; any other name as it is."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libstdc++.so.6")
        status = ctypes.c_int()
        demangle = library.__cxa_demangle
        demangle.restype = ctypes.c_void_p
        demangle.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        address = demangle(symbol, None, None, ctypes.addressof(status))
        if address:
            text = ctypes.string_at(address)
            ctypes.CDLL(None).free(ctypes.c_void_p(address))
            return text.decode(errors="replace")
    return symbol.decode(errors="replace")
