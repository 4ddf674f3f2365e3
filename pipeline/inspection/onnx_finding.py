"""What TensorRT does not take of an ONNX file, or does not fuse, as it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from pipeline.engines.tensorrt.facts import SOURCE
from pipeline.inspection.onnx_sites import Site
from pipeline.onnx_files.model import Node

Effect = Literal["refused", "wrong", "unfused", "risk"]
"""The build fails; it computes something else; it is compiled as several kernels; or NVIDIA's guide
asks for another form, although the TensorRT that was tried fused this one. The worst first."""

GUIDE = f"TensorRT's guide, Fused Attention; but seen fused, {SOURCE}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: the nodes that have it, what it is, why it matters, and what to do."""

    trap: str
    effect: Effect
    what: str
    why: str
    hint: str
    nodes: tuple[str, ...]
    source: str = SOURCE


Rule = Callable[[Site], Iterable[Finding]]
"""Looks at one site for one trap; gives nothing where the file does not tell."""


def titles(*nodes: Node) -> tuple[str, ...]:
    """How nodes are named to people."""
    return tuple(node.title for node in nodes)
