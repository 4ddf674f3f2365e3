"""Steps of `Slice` nodes with which onnx must not follow the values of shapes.

Its shape inference counts them in 32 bits there: a step of 2^31 reads memory that is not its own,
one of 2^32 is 0 and makes a list without an end (measured with onnx 1.19 and 1.23).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx import numpy_helper

from pipeline.onnx_files.protos import nodes_of

MAX_STEP = (1 << 31) - 1

_STEPS = 4
"""Which input of a `Slice` its steps are."""


def has_long_steps(proto: Any) -> bool:
    """Whether a node of a ModelProto without functions has such steps, or steps that may be so.

    That is all but constants of the file: others could be computed to be so.
    """
    nodes = list(nodes_of(proto.graph.node))
    slices = [node for node in nodes if node.op_type == "Slice"]
    names = {node.input[_STEPS] for node in slices if len(node.input) > _STEPS} - {""}
    if not names:
        return False
    constants = [(name, tensor) for name, tensor in _tensors(proto.graph) if name in names]
    long = {name for name, tensor in constants if not _is_short(tensor)}
    made = {name for node in nodes if node.op_type != "Constant" for name in node.output}
    return bool(names - {name for name, _ in constants} or names & (long | made))


def _tensors(graph: Any) -> Iterator[tuple[Any, Any]]:
    """Initializers and constants with their names, those of inner graphs too; None: no tensor."""
    waiting = [graph]
    while waiting:
        inner = waiting.pop()
        yield from ((tensor.name, tensor) for tensor in inner.initializer)
        for node in inner.node:
            for attribute in node.attribute:
                waiting += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
            if node.op_type == "Constant" and node.output:
                tensor = next((a.t for a in node.attribute if a.HasField("t")), None)
                yield node.output[0], tensor


def _is_short(tensor: Any) -> bool:
    if tensor is None or tensor.data_location == tensor.EXTERNAL:
        return False
    try:
        values = numpy_helper.to_array(tensor).reshape(-1).tolist()
    except (TypeError, ValueError, KeyError):  # no such dtype; fewer values than dims say
        return False
    return all(isinstance(value, int) and abs(value) <= MAX_STEP for value in values)
