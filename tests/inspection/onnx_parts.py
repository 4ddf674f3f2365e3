"""Small ONNX graphs of one attention each, with or without a trap, made by `onnx.helper`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF, BFLOAT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
BOOL, INT64 = TensorProto.BOOL, TensorProto.INT64
BATCH, HEADS, SEQ, SIZE = 1, 4, 32, 64


def value(name: str, dtype: int, *dims: int | str) -> onnx.ValueInfoProto:
    """A port."""
    return helper.make_tensor_value_info(name, dtype, list(dims))


def stored(name: str, number: Any, dtype: Any = np.float16) -> onnx.TensorProto:
    """A constant inside the file."""
    return numpy_helper.from_array(np.array(number, dtype=dtype), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    *,
    opset: int = 23,
    constants: Sequence[onnx.TensorProto] = (),
    domains: Sequence[str] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    ir_version: int = 11,
) -> onnx.ModelProto:
    """A whole model."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializer=list(constants))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    made = helper.make_model(
        graph, opset_imports=opsets, functions=list(functions), producer_name="tests"
    )
    made.ir_version = ir_version
    return made


def heads(dtype: int = HALF, size: int = SIZE, num: int = HEADS, seq: int = SEQ) -> list[Any]:
    """Ports `q`, `k`, `v` of `[1, heads, seq, size]`."""
    return [value(name, dtype, BATCH, num, seq, size) for name in "qkv"]


def attention(
    extra: Sequence[onnx.ValueInfoProto] = (),
    names: Sequence[str] = ("q", "k", "v"),
    outputs: Sequence[str] = ("o",),
    *,
    opset: int = 24,
    dtype: int = HALF,
    size: int = SIZE,
    num: int = HEADS,
    value_size: int | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """The operator `Attention`; ports beside q, k and v are `extra`."""
    ports = heads(dtype, size, num)
    ports[2] = value("v", dtype, BATCH, num, SEQ, value_size or size)
    node = helper.make_node("Attention", names, outputs, name="attend", **attributes)
    made = {
        "o": value("o", dtype, BATCH, num, SEQ, value_size or size),
        "present_key": value("present_key", dtype, BATCH, num, "total", size),
        "present_value": value("present_value", dtype, BATCH, num, "total", size),
        "scores": value("scores", dtype, BATCH, num, SEQ, SEQ),
    }
    return model([node], [*ports, *extra], [made[name] for name in outputs if name], opset=opset)


class Parts:
    """Collects nodes in a row, each named after its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.last = ""

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """One more node; what it makes is the last value."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        self.last = output


def in_parts(
    *traps: str, dtype: int = HALF, size: int = SIZE, num: int = HEADS, seq: int = SEQ
) -> onnx.ModelProto:
    """MatMul, Softmax, MatMul at opset 18, with the named traps."""
    exact = np.float32 if dtype == FLOAT else np.float16
    constants = [stored("scale", 0.125, exact), stored("zero", 0, exact)]
    constants += [stored("never", -1e4, exact), stored("keys_dim", [-1], np.int64)]
    ports, p = heads(dtype, size, num, seq), Parts()
    p.add("Transpose", ["k"], "k_turned", perm=[0, 1, 3, 2])
    if "late scale" in traps:
        p.add("MatMul", ["q", "k_turned"], "product")
        p.add("Mul", ["product", "scale"], "scores")
    else:
        p.add("Mul", ["q", "scale"], "q_scaled")
        p.add("MatMul", ["q_scaled", "k_turned"], "scores")
    if "bool mask" in traps:
        ports.append(value("mask", BOOL, 1, 1, seq, seq))
        p.add("Where", ["mask", p.last, "never"], "masked")
    if "mask" in traps:
        ports.append(value("mask", dtype, 1, 1, seq, seq))
        p.add("Add", [p.last, "mask"], "masked")
    if "softcap" in traps:
        p.add("Div", [p.last, "scale"], "small")
        p.add("Tanh", ["small"], "squeezed")
        p.add("Mul", ["squeezed", "scale"], "capped")
    if "sinks" in traps:
        ports.append(value("sink", dtype, 1, num, seq, 1))
        p.add("Concat", [p.last, "sink"], "with_sink", axis=-1)
    if "island" in traps:
        p.add("Cast", [p.last], "raised", to=FLOAT)
    _softmax(p, traps)
    _after(p, traps, dtype, constants, seq)
    p.add("MatMul", [p.last, "v"], "o")
    return model(
        p.nodes,
        ports,
        [value("o", dtype, BATCH, num, seq, size)],
        opset=18,
        constants=constants,
        ir_version=8,
    )


def _softmax(p: Parts, traps: Sequence[str]) -> None:
    if "softmax in parts" in traps:
        scores = p.last
        p.add("ReduceMax", [scores, "keys_dim"], "largest", keepdims=1)
        p.add("Sub", [scores, "largest"], "below")
        p.add("Exp", ["below"], "powers")
        p.add("ReduceSum", ["powers", "keys_dim"], "sum", keepdims=1)
        p.add("Div", ["powers", "sum"], "shares")
    else:
        p.add("Softmax", [p.last], "shares", axis=2 if "axis" in traps else -1)


def _after(
    p: Parts, traps: Sequence[str], dtype: int, constants: list[onnx.TensorProto], seq: int
) -> None:
    if "island" in traps:
        p.add("Cast", [p.last], "lowered", to=dtype)
    if "NaN guard" in traps:
        shares = p.last
        p.add("IsNaN", [shares], "is_nan")
        p.add("Where", ["is_nan", "zero", shares], "guarded")
    if "dropout" in traps:
        p.add("Dropout", [p.last], "dropped")
    if "sinks" in traps:
        for name, number in (("from", 0), ("to", seq), ("dim", 3)):
            constants.append(stored(name, [number], np.int64))
        p.add("Slice", [p.last, "from", "to", "dim"], "without_sink")


def contributed(
    op: str, names: Sequence[str], outputs: Sequence[str] = ("o",), **attributes: Any
) -> onnx.ModelProto:
    """One of ONNX Runtime's operators on `[1, seq, 256]`; all inputs have that shape."""
    node = helper.make_node(op, names, outputs, name="attend", domain="com.microsoft", **attributes)
    ports = [value(name, HALF, BATCH, SEQ, 256) for name in names if name]
    out = [value("o", HALF, BATCH, SEQ, 256)]
    out += [value(name, HALF, BATCH, HEADS, SEQ, SIZE) for name in outputs[1:]]
    return model([node], ports, out, opset=18, domains=["com.microsoft"], ir_version=8)


def inside_loop() -> onnx.ModelProto:
    """`Attention` in the body of a loop."""
    body = helper.make_graph(
        [
            helper.make_node("Attention", ["x", "k", "v"], ["y"], name="attend"),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [value("i", INT64), value("go", BOOL), value("x", HALF, BATCH, HEADS, SEQ, SIZE)],
        [value("go_on", BOOL), value("y", HALF, BATCH, HEADS, SEQ, SIZE)],
    )
    node = helper.make_node("Loop", ["times", "start", "q"], ["o"], name="loop", body=body)
    constants = [stored("times", 3, np.int64), stored("start", True, np.bool_)]
    out = [value("o", HALF, BATCH, HEADS, SEQ, SIZE)]
    return model([node], heads(), out, constants=constants)


def inside_scan() -> onnx.ModelProto:
    """`Attention` in the body of a scan over three rows."""
    shape = (BATCH, HEADS, SEQ, SIZE)
    body = helper.make_graph(
        [
            helper.make_node("Attention", ["x", "k", "v"], ["y"], name="attend"),
            helper.make_node("Identity", ["row"], ["same"]),
        ],
        "body",
        [value("x", HALF, *shape), value("row", HALF, 1)],
        [value("y", HALF, *shape), value("same", HALF, 1)],
    )
    outputs = ["o", "rows_out"]
    node = helper.make_node(
        "Scan", ["q", "rows"], outputs, name="scan", body=body, num_scan_inputs=1
    )
    out = [value("o", HALF, *shape), value("rows_out", HALF, 3, 1)]
    return model([node], [*heads(), value("rows", HALF, 3, 1)], out)


def inside_condition() -> onnx.ModelProto:
    """`Attention` in one branch of a condition."""
    shape = (BATCH, HEADS, SEQ, SIZE)
    attend = helper.make_node("Attention", ["q", "k", "v"], ["y"], name="attend")
    then = helper.make_graph([attend], "then", [], [value("y", HALF, *shape)])
    keep = helper.make_node("Identity", ["q"], ["same"])
    other = helper.make_graph([keep], "else", [], [value("same", HALF, *shape)])
    node = helper.make_node("If", ["c"], ["o"], name="if", then_branch=then, else_branch=other)
    return model([node], [*heads(), value("c", BOOL)], [value("o", HALF, *shape)])


def in_functions() -> onnx.ModelProto:
    """A function of the file whose body has the scores, another with the softmax; called twice."""
    own = helper.make_opsetid("", 18)
    scores = helper.make_function(
        "own",
        "Scores",
        ["q", "k"],
        ["s"],
        [
            helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
            helper.make_node("MatMul", ["q", "kt"], ["s"]),
        ],
        [own],
    )
    block = helper.make_function(
        "own",
        "Block",
        ["q", "k", "v"],
        ["o"],
        [
            helper.make_node("Scores", ["q", "k"], ["s"], domain="own"),
            helper.make_node("Softmax", ["s"], ["p"], axis=-1, name="softmax"),
            helper.make_node("MatMul", ["p", "v"], ["o"]),
        ],
        [own, helper.make_opsetid("own", 1)],
    )
    nodes = [
        helper.make_node("Block", ["q", "k", "v"], ["first"], domain="own", name="block.0"),
        helper.make_node("Block", ["first", "k", "v"], ["o"], domain="own", name="block.1"),
    ]
    out = [value("o", HALF, BATCH, HEADS, SEQ, SIZE)]
    return model(nodes, heads(), out, opset=18, domains=["own"], functions=[scores, block])


def written(made: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """The path of a model in a folder."""
    path = folder / name
    path.write_bytes(made.SerializeToString())
    return path
