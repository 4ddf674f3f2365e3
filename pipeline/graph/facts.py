"""What is in a decoder graph, to compare with what a compiler or a runtime makes of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the graph; a dim that is a string is dynamic."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """Operators, attention sites, ports, and the weight files referred to.

    `attention_sites`: layers that have attention, however it is written.
    """

    compute_dtype: str
    attention_sites: int
    op_counts: dict[str, int]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    weight_files: tuple[str, ...]


def graph_facts(model: onnx.ModelProto, compute_dtype: str, attention_sites: int) -> GraphFacts:
    """Facts of a decoder model."""
    graph = model.graph
    counts = Counter(node.op_type for node in graph.node)
    return GraphFacts(
        compute_dtype=compute_dtype,
        attention_sites=attention_sites,
        op_counts=dict(sorted(counts.items())),
        inputs=tuple(_port(value) for value in graph.input),
        outputs=tuple(_port(value) for value in graph.output),
        weight_files=_weight_files(graph),
    )


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    dims = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return Port(value.name, dtype, dims)


def _weight_files(graph: onnx.GraphProto) -> tuple[str, ...]:
    entries = (entry for tensor in graph.initializer for entry in tensor.external_data)
    return tuple(sorted({entry.value for entry in entries if entry.key == "location"}))
