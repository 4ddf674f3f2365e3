"""A thin layer over ONNX protobufs: nodes named after what they compute, weights left outside.

Every name is given by the part that makes the node, so the same checkpoint gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.graph.weights import Joined

OPSET = 24
IR_VERSION = 12
"""Of ONNX 1.19, the first with opset 24. Read by ONNX Runtime 1.32 and TensorRT for RTX 1.7."""

PRODUCER = "trtllm-pack"

ONNX_DTYPES = {
    "bfloat16": TensorProto.BFLOAT16,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}

Dims = Sequence[int | str]


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy type of a dtype as we spell it; `bfloat16` is that of ml_dtypes."""
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


class GraphBuilder:
    """Collects nodes, initializers, inputs and outputs; floats are computed in `compute_dtype`."""

    def __init__(self, compute_dtype: str, *, flat_linear: bool = False) -> None:
        self.compute_dtype = compute_dtype
        self.flat_linear = flat_linear  # see `linear.py`
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._names: set[str] = set()

    @property
    def compute_type(self) -> int:
        """The compute dtype as ONNX numbers it."""
        return int(ONNX_DTYPES[self.compute_dtype])

    @property
    def lowest(self) -> float:
        """The lowest finite number of the compute dtype."""
        return float(ml_dtypes.finfo(numpy_dtype(self.compute_dtype)).min)

    def input(self, name: str, dtype: str, dims: Dims) -> str:
        """Declare a graph input; a dim that is a string is dynamic."""
        self.inputs.append(helper.make_tensor_value_info(self._new(name), ONNX_DTYPES[dtype], dims))
        return name

    def output(self, name: str, dtype: str, dims: Dims) -> str:
        """Declare a value that a node makes as a graph output."""
        assert name in self._names, name
        self.outputs.append(helper.make_tensor_value_info(name, ONNX_DTYPES[dtype], dims))
        return name

    def node(self, op_type: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output, named like the node; an empty input name is left out."""
        made = helper.make_node(op_type, list(inputs), [self._new(name)], name=name, **attributes)
        self.nodes.append(made)
        return name

    def several(
        self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs, named after the first; an empty name is left out."""
        names = [self._new(name) if name else "" for name in outputs]
        made = helper.make_node(op_type, list(inputs), names, name=names[0], **attributes)
        self.nodes.append(made)
        return names

    def weight(self, joined: Joined, *, cast: bool = True) -> str:
        """A weight as external data: one initializer per part, joined and cast where needed."""
        value = self._joined(joined, joined.name)
        return self.cast(value, joined.dtype, f"{joined.name}.cast") if cast else value

    def cast(self, value: str, dtype: str, name: str) -> str:
        """A value of `dtype` in the compute dtype; nothing where these are the same."""
        if dtype == self.compute_dtype:
            return value
        return self.node("Cast", [value], name, to=self.compute_type)

    def scaled(self, value: str, factor: float, name: str) -> str:
        """A value in the compute dtype, multiplied; nothing where the factor is 1."""
        if factor == 1:
            return value
        return self.node("Mul", [value, self.number(factor, f"{name}.factor")], name)

    def number(self, value: float, name: str) -> str:
        """A scalar constant in the compute dtype."""
        return self.constant(name, np.array(value, dtype=numpy_dtype(self.compute_dtype)))

    def ones(self, name: str, size: int) -> str:
        """A vector of ones in the compute dtype."""
        return self.constant(name, np.ones(size, dtype=numpy_dtype(self.compute_dtype)))

    def diagonal(self, name: str, rows: int, columns: int) -> str:
        """A matrix with ones on its diagonal, zeros elsewhere, in the compute dtype."""
        return self.constant(name, np.eye(rows, columns, dtype=numpy_dtype(self.compute_dtype)))

    def shared(self, name: str, make: Callable[[str], str]) -> str:
        """The value of that name, made by its first user."""
        return name if name in self._names else make(name)

    def constant(self, name: str, values: NDArray[Any] | list[int]) -> str:
        """A small constant inside the file: an array, or a list of int64."""
        array = np.asarray(values, order="C")
        made = onnx.numpy_helper.from_array(array, self._new(name))
        self.initializers.append(made)
        return name

    def model(self, name: str) -> onnx.ModelProto:
        """The model as a protobuf."""
        graph = helper.make_graph(
            self.nodes, name, self.inputs, self.outputs, initializer=self.initializers
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], producer_name=PRODUCER)
        model.ir_version = IR_VERSION
        return model

    def _joined(self, joined: Joined, name: str) -> str:
        names = []
        for index, part in enumerate(joined.parts):
            inner = f"{name}.part{index}" if len(joined.parts) > 1 else name
            if isinstance(part, Joined):
                names.append(self._joined(part, inner))
            else:
                names.append(self._external(part, inner))
        return names[0] if len(names) == 1 else self.node("Concat", names, name, axis=joined.dim)

    def _external(self, part: TensorInfo, name: str) -> str:
        tensor = onnx.TensorProto(name=self._new(name))
        tensor.data_type = ONNX_DTYPES[part.dtype]
        tensor.dims.extend(part.shape)
        tensor.data_location = TensorProto.EXTERNAL
        place = (("location", part.file), ("offset", part.offset), ("length", part.num_bytes))
        for key, value in place:
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
        self.initializers.append(tensor)
        return name

    def _new(self, name: str) -> str:
        assert name not in self._names, f"two values named {name}"
        self._names.add(name)
        return name
