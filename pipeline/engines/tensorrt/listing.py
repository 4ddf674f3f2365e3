"""The kernels that an engine file names for its attention: a second witness beside the build.

An engine of TensorRT for RTX holds, for each optimisation profile, the list of its kernels, and for
each of them the nodes of the graph that it computes. The form is undocumented (seen in 1.7.1), so
that the list proves nothing where it is missing; where it is there, it must not contradict.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.artifact import Json
from pipeline.errors import ToolFailed
from pipeline.trtllm.kernels import find_row

_BEGIN = b"function={ name="
_ENTRY = re.compile(rb'function=\{ name=(\S+) [^\x00]*? layers="([^"]*)"')
_LONGEST_ENTRY = 1 << 18
"""Bytes; a kernel of a large graph names many nodes and arguments."""

_BLOCK = 1 << 24
"""Bytes that are read at once."""

_WEIGHTS = 1 << 27
"""Bytes without an entry after which none is looked for: the lists of all profiles come first, some
megabytes of code apart, and then the weights."""

_SOFTMAX = re.compile(r"__myl_\w*Max\w*SubExpSum")
"""A softmax as a kernel of its own, written by TensorRT's compiler. Elsewhere than in an attention,
in a router of experts say, it means nothing: a trace alone cannot tell."""

_SITE = re.compile(r"\[ONNX Layer: layers\.(\d+)\.attention\.")
"""The graph's parts name the nodes of an attention so."""


def attention_kernels(path: Path) -> dict[str, Json]:
    """Kernels of attention in an engine file: names with counts, and layers, JSON.

    `fused`, `unfused`: name -> how often it is listed, over all profiles; `layers_fused`,
    `layers_unfused`: decoder layers that have such a kernel. `listed` is False where the file has
    no list that we can read.
    """
    counts: dict[str, Counter[str]] = {"fused": Counter(), "unfused": Counter()}
    layers: dict[str, set[str]] = {"fused": set(), "unfused": set()}
    listed = False
    for name, nodes in _listed(path):
        listed = True
        kind, sites = _kind(name), _SITE.findall(nodes)
        if kind is not None and sites:
            counts[kind][name] += 1
            layers[kind].update(sites)
    return {
        "listed": listed,
        **{kind: dict(sorted(found.items())) for kind, found in counts.items()},
        **{f"layers_{kind}": len(found) for kind, found in layers.items()},
    }


def check_kernels(kernels: Mapping[str, Json], attention_layers: int) -> None:
    """Raise ToolFailed where fused attention was built and the list says something else."""
    if not kernels["listed"]:
        return
    if kernels["layers_unfused"] or kernels["layers_fused"] != attention_layers:
        raise ToolFailed(
            "the engine's list of kernels contradicts the build",
            facts=[
                f"{attention_layers} non-decomposable attention layers were built",
                f"{kernels['layers_fused']} have a fused kernel: {_names(kernels['fused'])}",
                f"{kernels['layers_unfused']} have an unfused one: {_names(kernels['unfused'])}",
            ],
        )


def _kind(name: str) -> str | None:
    """`fused`, `unfused`, or None for kernels that are no attention."""
    if _SOFTMAX.match(name):
        return "unfused"
    row = find_row(name)
    return "fused" if row is not None and row.kind == "fused" else None


def _names(kernels: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in kernels) or "none"


def _listed(path: Path) -> Iterator[tuple[str, str]]:
    """(kernel, nodes) of every entry; the file is read in pieces, which overlap by an entry."""
    with path.open("rb") as stream:
        data, since_entry, is_last = b"", 0, False
        while not is_last and since_entry < _WEIGHTS:
            block = stream.read(_BLOCK)
            is_last = len(block) < _BLOCK
            data += block
            since_entry += len(block)
            end = len(data) if is_last else len(data) - _LONGEST_ENTRY
            begin = data.find(_BEGIN, 0, end)
            while begin >= 0:
                since_entry = 0
                entry = _ENTRY.match(data, begin, begin + _LONGEST_ENTRY)
                if entry is not None:
                    yield entry[1].decode(errors="replace"), entry[2].decode(errors="replace")
                begin = data.find(_BEGIN, begin + len(_BEGIN), end)
            data = data[end:]
