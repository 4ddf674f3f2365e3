"""From the messages of the package onnx to plain values.

Names that are not UTF-8 are given as bytes by protocol buffers. They are read here, once, and raise
UnicodeDecodeError here and nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import onnx

from pipeline.artifact import Json
from pipeline.onnx_files.model import (
    MAIN_DOMAIN,
    UNKNOWN,
    External,
    Graph,
    Model,
    Node,
    Port,
    ValueType,
    Weight,
)

_SPELLINGS = {"float": "float32", "double": "float64"}
_PLAIN = {
    onnx.AttributeProto.FLOAT: "f",
    onnx.AttributeProto.INT: "i",
    onnx.AttributeProto.STRING: "s",
    onnx.AttributeProto.FLOATS: "floats",
    onnx.AttributeProto.INTS: "ints",
    onnx.AttributeProto.STRINGS: "strings",
}


def model_of(written: Any, resolved: Any) -> Model:
    """The model of a ModelProto, and of the same without functions and with types."""
    functions = [f"{_text(f.domain)}:{_text(f.name)}" for f in written.functions]
    # What is inferred depends on the version of onnx, what the file says of its ports does not.
    outputs, inputs = _ports(written.graph.output), _given(written.graph)
    return Model(
        ir_version=written.ir_version,
        producer=_text(written.producer_name),
        producer_version=_text(written.producer_version),
        opsets={_text(e.domain) or MAIN_DOMAIN: e.version for e in written.opset_import},
        op_counts=_op_counts(written),
        functions=tuple(sorted(functions)),
        graph=replace(_graph(resolved.graph), inputs=inputs, outputs=outputs),
    )


def nodes_of(nodes: Iterable[Any]) -> Iterator[Any]:
    """Nodes, and those of the graphs that they run."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes_of(attribute.g.node)
            for graph in attribute.graphs:
                yield from nodes_of(graph.node)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


def _op_counts(proto: Any) -> dict[str, dict[str, int]]:
    bodies = [proto.graph.node, *(function.node for function in proto.functions)]
    counts = Counter(
        (_text(node.domain) or MAIN_DOMAIN, _text(node.op_type))
        for body in bodies
        for node in nodes_of(body)
    )
    found: dict[str, dict[str, int]] = {}
    for (domain, op), count in sorted(counts.items()):
        found.setdefault(domain, {})[op] = count
    return found


def _graph(proto: Any) -> Graph:
    weights = tuple(_weight(tensor) for tensor in proto.initializer)
    sparse = tuple(_weight(tensor.values) for tensor in proto.sparse_initializer)
    stored = {weight.name: ValueType(weight.dtype, weight.dims) for weight in weights}
    between = {_text(value.name): _type(value) for value in proto.value_info}
    ports = {_text(value.name): _type(value) for value in (*proto.input, *proto.output)}
    return Graph(
        nodes=tuple(map(_node, proto.node)),
        inputs=_given(proto),
        outputs=_ports(proto.output),
        weights=weights + sparse,
        types={**between, **ports, **stored},
    )


def _node(proto: Any) -> Node:
    return Node(
        op=_text(proto.op_type),
        domain=_text(proto.domain),
        name=_text(proto.name),
        inputs=tuple(map(_text, proto.input)),
        outputs=tuple(map(_text, proto.output)),
        attributes={_text(attribute.name): _value(attribute) for attribute in proto.attribute},
        weights=tuple(_constants(proto.attribute)),
        graphs=_inner_graphs(proto.attribute),
    )


def _value(attribute: Any) -> Json:
    """Numbers, texts and lists of them; the rest (tensors, graphs, types) stands elsewhere."""
    name = _PLAIN.get(attribute.type)
    if attribute.ref_attr_name or name is None:
        return None
    value = getattr(attribute, name)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, int | float):
        return value
    return [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in value]


def _constants(attributes: Iterable[Any]) -> Iterator[Weight]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield _weight(attribute.t)
        yield from map(_weight, attribute.tensors)


def _inner_graphs(attributes: Iterable[Any]) -> dict[str, Graph]:
    found = {}
    for attribute in attributes:
        if attribute.HasField("g"):
            found[_text(attribute.name)] = _graph(attribute.g)
        for number, graph in enumerate(attribute.graphs):
            found[f"{_text(attribute.name)}[{number}]"] = _graph(graph)
    return found


def _given(graph: Any) -> tuple[Port, ...]:
    """Inputs that a caller gives. Before IR version 4 every initializer is an input too."""
    stored = {_text(tensor.name) for tensor in graph.initializer}
    return tuple(port for port in _ports(graph.input) if port.name not in stored)


def _ports(protos: Iterable[Any]) -> tuple[Port, ...]:
    return tuple(Port(_text(proto.name), _type(proto)) for proto in protos)


def _type(proto: Any) -> ValueType:
    if not proto.type.HasField("tensor_type"):
        return UNKNOWN  # a sequence, a map, or nothing
    tensor = proto.type.tensor_type
    dims = tuple(_dim(dim) for dim in tensor.shape.dim) if tensor.HasField("shape") else None
    return ValueType(_dtype(tensor.elem_type), dims)


def _dim(proto: Any) -> int | str | None:
    if proto.HasField("dim_value"):
        return int(proto.dim_value)
    return _text(proto.dim_param) or None


def _dtype(number: int) -> str | None:
    if number == onnx.TensorProto.UNDEFINED or number not in onnx.TensorProto.DataType.values():
        return None
    name: str = onnx.TensorProto.DataType.Name(number).lower()
    return _SPELLINGS.get(name, name)


def _weight(proto: Any) -> Weight:
    dtype = _dtype(proto.data_type) or f"unknown ({proto.data_type})"
    if proto.data_location != onnx.TensorProto.EXTERNAL:
        return Weight(_text(proto.name), dtype, tuple(proto.dims))
    entries = {_text(entry.key): _text(entry.value) for entry in proto.external_data}
    external = External(
        entries.get("location", ""), entries.get("offset", "0"), entries.get("length")
    )
    return Weight(_text(proto.name), dtype, tuple(proto.dims), external)
