"""What an ONNX file says, as plain values: nothing here needs the package onnx."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from pipeline.artifact import Json

MAIN_DOMAIN = "ai.onnx"
"""How the standard operators' domain, which files spell as nothing, is written out."""

_WIDE = {"float32": 32, "float64": 64, "bfloat16": 16, "bool": 8, "complex64": 64}


def dtype_bits(dtype: str) -> int | None:
    """Bits of one value: `float16`, `uint4`, `float8e4m3fn`; None where there is no such number."""
    if dtype in _WIDE:
        return _WIDE[dtype]
    digits = (
        dtype.removeprefix("u").removeprefix("int").removeprefix("float").removeprefix("complex")
    )
    leading = digits.partition("e")[0]
    return int(leading) if leading.isdigit() else None


@dataclass(frozen=True, slots=True)
class ValueType:
    """A value's dtype (None: unknown) and dims (None: unknown; a dim: size, name, or unknown)."""

    dtype: str | None
    dims: tuple[int | str | None, ...] | None


UNKNOWN = ValueType(None, None)


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph."""

    name: str
    type: ValueType


@dataclass(frozen=True, slots=True)
class External:
    """Where a weight's bytes are said to lie; `offset` and `length` as they are written."""

    location: str
    offset: str
    length: str | None


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the file (an initializer, or a constant), without its values."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    external: External | None = None

    @property
    def num_bytes(self) -> int | None:
        """dims x dtype; values of less than a byte are packed. None where that is not known."""
        bits = dtype_bits(self.dtype)
        return None if bits is None else -(-prod(self.dims) * bits // 8)


@dataclass(frozen=True, slots=True)
class Node:
    """One operator call. `attributes` has numbers, texts and lists; `graphs` those that it runs.

    An attribute that takes its value from the surrounding function is None.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Json] = field(default_factory=dict)
    weights: tuple[Weight, ...] = ()
    graphs: Mapping[str, Graph] = field(default_factory=dict)

    def input(self, position: int) -> str:
        """The name of an input; empty where it is left out."""
        return self.inputs[position] if position < len(self.inputs) else ""

    @property
    def is_standard(self) -> bool:
        """Of the standard domain."""
        return self.domain in {"", MAIN_DOMAIN}

    @property
    def title(self) -> str:
        """Its name, else that of its first output."""
        return self.name or next((name for name in self.outputs if name), "") or self.op


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in order, ports, initializers, and the types of the values between."""

    nodes: tuple[Node, ...]
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    weights: tuple[Weight, ...] = ()
    types: Mapping[str, ValueType] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """A whole file. `opsets` by domain, the standard one as `ai.onnx`.

    `op_counts` (domain -> operator -> nodes) is as the file is written: bodies of its own functions
    and inner graphs included, each once. In `graph` calls of these functions are replaced by their
    bodies.
    """

    ir_version: int
    producer: str
    producer_version: str
    opsets: Mapping[str, int]
    op_counts: Mapping[str, Mapping[str, int]]
    functions: tuple[str, ...]
    graph: Graph

    def graphs(self) -> Iterator[tuple[str, Graph]]:
        """Every graph with its place: the main one, and those that nodes run."""
        yield from _with_inner("", self.graph)

    def weights(self) -> Iterator[Weight]:
        """Every tensor of the file, of all graphs."""
        for _, graph in self.graphs():
            yield from graph.weights
            for node in graph.nodes:
                yield from node.weights


def _with_inner(place: str, graph: Graph) -> Iterator[tuple[str, Graph]]:
    yield place, graph
    for node in graph.nodes:
        for name, inner in node.graphs.items():
            inside = f"{name} of {node.op} `{node.title}`"
            yield from _with_inner(f"{place}, {inside}" if place else inside, inner)
