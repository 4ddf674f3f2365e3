"""The decoder graph as the network must be: what is compared with what TensorRT's parser made.

Imports onnx: the build imports it where it works.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx

from pipeline.artifact import Json
from pipeline.engines.tensorrt.operators import dropped
from pipeline.errors import ToolFailed

NAMES = {
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.FLOAT: "FLOAT",
    onnx.TensorProto.FLOAT16: "HALF",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
}
"""ONNX's number of a dtype -> TensorRT's name (`DataType`)."""


def expected_network(path: Path) -> dict[str, Json]:
    """What a network must have of the graph in a file, JSON, by names of the graph.

    `inputs`, `outputs` and `weights` (external data): name -> [dtype, dims], -1 where a dim is
    dynamic; `attention`, `rotary`, `cache_updates`: node -> what its layer must say.
    Raises ToolFailed where the parser would drop a part of a node.
    """
    graph = onnx.load(path, load_external_data=False).graph
    faults = dropped(graph.node)
    if faults:
        raise ToolFailed("TensorRT's ONNX parser would drop a part of the graph", facts=faults)
    nodes = {kind: [node for node in graph.node if node.op_type == kind] for kind in _KINDS}
    return {
        "inputs": _ports(graph.input),
        "outputs": _ports(graph.output),
        "weights": {
            tensor.name: [NAMES[tensor.data_type], list(tensor.dims)]
            for tensor in graph.initializer
            if tensor.data_location == onnx.TensorProto.EXTERNAL
        },
        "attention": {node.name: _attention(node) for node in nodes["Attention"]},
        "rotary": {node.name: _rotary(node) for node in nodes["RotaryEmbedding"]},
        "cache_updates": [node.name for node in nodes["TensorScatter"]],
    }


_KINDS = ("Attention", "RotaryEmbedding", "TensorScatter")


def _ports(values: Iterable[onnx.ValueInfoProto]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for value in values:
        tensor = value.type.tensor_type
        dims = [-1 if dim.dim_param else dim.dim_value for dim in tensor.shape.dim]
        found[value.name] = [NAMES[tensor.elem_type], dims]
    return found


def _attention(node: onnx.NodeProto) -> dict[str, Json]:
    has_mask = len(node.input) > 3 and bool(node.input[3])
    return {"causal": bool(_integer(node, "is_causal")), "mask": has_mask}


def _rotary(node: onnx.NodeProto) -> dict[str, Json]:
    return {
        "interleaved": bool(_integer(node, "interleaved")),
        "rotary_embedding_dim": _integer(node, "rotary_embedding_dim"),
    }


def _integer(node: onnx.NodeProto, name: str) -> int:
    return next((each.i for each in node.attribute if each.name == name), 0)
