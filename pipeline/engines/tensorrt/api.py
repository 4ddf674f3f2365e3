"""Which TensorRT is installed, and the few ways in which its two flavours differ.

`tensorrt` (10.15 or later, from NVIDIA's own index) builds for the GPU that is present. TensorRT
for RTX (`tensorrt-rtx-cu13-*`, from the public index) compiles ahead of time for named compute
capabilities with no GPU. The Python API is the same otherwise. Only the second was executed by us;
the first is checked against its published interface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

MIN_TENSORRT = (10, 15)
"""Attention layers came with 10.14, but rotary embedding and KV-cache update, which the decoder
graph needs too, with 10.15.1 (TensorRT documentation, "Working with Transformers")."""

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
        versions = _versions(names)
        if versions is not None and (is_rtx or _release(versions[0][1]) >= MIN_TENSORRT):
            return Flavour(is_rtx, versions, modules)
    return None


def why_no_flavour() -> str | None:
    """Why no TensorRT can be used, and what to do; None where `find_flavour` finds one."""
    if find_flavour() is not None:
        return None
    for is_rtx, names, _ in _DISTRIBUTIONS:
        versions = None if is_rtx else _versions(names)
        if versions is not None:
            old = f"`{names[0]}` {versions[0][1]} is installed, but the decoder graph needs 10.15"
            return f"{old}; {INSTALL_HINT}"
    return f"neither `tensorrt` 10.15 or later nor TensorRT for RTX is installed; {INSTALL_HINT}"


def why_no_cuda_bindings() -> str | None:
    """Why an engine cannot be executed from Python, and what to do; None where it can."""
    if _versions(("cuda-bindings",)) is not None:
        return None
    return "`cuda-bindings` is not installed; install it by `pip install 'trtllm-pack[run]'`"


def _versions(names: Sequence[str]) -> tuple[tuple[str, str], ...] | None:
    try:
        return tuple((name, version(name)) for name in names)
    except PackageNotFoundError:
        return None


def load_api(flavour: Flavour) -> ModuleType:
    """Import the flavour; the module with the API."""
    loaded = [import_module(name) for name in flavour.modules]
    return loaded[-1]


def create_network(trt: Any, builder: Any) -> Any:
    """An empty network whose tensors keep the dtypes that the graph gives them."""
    return builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))


def set_targets(trt: Any, flavour: Flavour, config: Any, targets: Sequence[str]) -> None:
    """Name the GPUs to compile for. `tensorrt` has no such API: it compiles for the one present."""
    if flavour.is_rtx:
        config.num_compute_capabilities = len(targets)
        for number, target in enumerate(targets):
            capability = getattr(trt.ComputeCapability, target.upper())
            config.set_compute_capability(capability, number)


def write_engine(trt: Any, builder: Any, network: Any, config: Any, path: Path) -> bool:
    """Build into a file; False where the builder refuses. Raises OSError.

    Written in pieces, so that the whole engine is never in memory beside its weights. Versions of
    `tensorrt` that cannot do that return it as a whole.
    """
    if not hasattr(builder, "build_serialized_network_to_stream"):
        engine = builder.build_serialized_network(network, config)
        if engine is not None:
            path.write_bytes(engine)
        return engine is not None

    class Writer(trt.IStreamWriter):  # type: ignore[misc]
        def __init__(self, stream: BinaryIO) -> None:
            trt.IStreamWriter.__init__(self)
            self.stream = stream
            self.error: OSError | None = None

        def write(self, data: bytes) -> int:
            try:
                return self.stream.write(data)
            except OSError as error:  # an exception cannot pass through the builder
                self.error = error
                return 0

    with path.open("wb") as stream:
        writer = Writer(stream)
        built = builder.build_serialized_network_to_stream(network, config, writer)
    if writer.error is not None:
        raise writer.error
    return bool(built)


def _release(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)
