"""Which TensorRT is installed, and the few ways in which its two flavours differ.

`tensorrt` (10.14 or later, from NVIDIA's own index) builds for the GPU that is present. TensorRT
for RTX (`tensorrt-rtx-cu13-*`, from the public index) compiles ahead of time for named compute
capabilities with no GPU. The Python API is the same otherwise. Only the second was executed by us;
the first is checked against its published interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

MIN_TENSORRT = (10, 14)
"""The first `tensorrt` whose ONNX parser makes attention layers (its 10.14 release notes)."""

INSTALL_HINT = "install it by `pip install 'trtllm-pack[rtx]'`"


@dataclass(frozen=True, slots=True)
class Flavour:
    """One installed TensorRT: its distributions with versions, the modules to import in order."""

    is_rtx: bool
    versions: tuple[tuple[str, str], ...]
    modules: tuple[str, ...]

    @property
    def title(self) -> str:
        """For people."""
        return f"{'TensorRT for RTX' if self.is_rtx else 'TensorRT'} {self.versions[0][1]}"


_DISTRIBUTIONS = (
    (False, ("tensorrt-cu13",), ("tensorrt",)),
    (False, ("tensorrt",), ("tensorrt",)),
    (
        True,
        ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs"),
        # The libraries first: importing them loads what the bindings link against.
        ("tensorrt_rtx_libs", "tensorrt_rtx_bindings"),
    ),
)


def find_flavour() -> Flavour | None:
    """The installed TensorRT, `tensorrt` before TensorRT for RTX; nothing is imported."""
    for is_rtx, names, modules in _DISTRIBUTIONS:
        try:
            versions = tuple((name, version(name)) for name in names)
        except PackageNotFoundError:
            continue
        if is_rtx or _release(versions[0][1]) >= MIN_TENSORRT:
            return Flavour(is_rtx, versions, modules)
    return None


def load_api(flavour: Flavour) -> ModuleType:
    """Import the flavour; the module with the API."""
    loaded = [import_module(name) for name in flavour.modules]
    return loaded[-1]


def _release(text: str) -> tuple[int, int]:
    parts = text.split(".")
    return int(parts[0]), int(parts[1])
