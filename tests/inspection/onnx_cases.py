"""Each trap with the smallest graph that has it, and what TensorRT makes of that graph."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import helper

from tests.inspection.onnx_parts import (
    BFLOAT,
    BOOL,
    FLOAT,
    HALF,
    HEADS,
    INT64,
    SEQ,
    SIZE,
    attention,
    contributed,
    heads,
    in_functions,
    in_parts,
    inside_condition,
    inside_loop,
    inside_scan,
    model,
    value,
)

MASK = value("mask", HALF, 1, 1, SEQ, SEQ)
BOOL_MASK = value("mask", BOOL, 1, 1, SEQ, SEQ)
PAST = [value("pk", HALF, 1, HEADS, 8, SIZE), value("pv", HALF, 1, HEADS, 8, SIZE)]
WITH_MASK = ("q", "k", "v", "mask")
CACHED = ("o", "present_key", "present_value")


@dataclass(frozen=True, slots=True)
class Case:
    """A graph of one site (or two equal ones), its verdict, and the traps that are found."""

    model: onnx.ModelProto
    verdict: str
    traps: tuple[str, ...] = ()


def _case(made: onnx.ModelProto, verdict: str, *traps: str) -> Case:
    return Case(made, verdict, traps)


OPERATOR = {
    "plain": _case(attention(), "fused"),
    "bfloat16": _case(attention(dtype=BFLOAT), "fused"),
    "causal": _case(attention(is_causal=1), "fused"),
    "mask": _case(attention([MASK], WITH_MASK), "fused"),
    "bool mask": _case(attention([BOOL_MASK], WITH_MASK), "fused"),
    "scale": _case(attention(scale=0.3), "fused"),
    "softcap of nothing": _case(attention(softcap=0.0), "fused"),
    "largest head": _case(attention(size=256), "fused"),
    "mask and causal": _case(
        attention([MASK], WITH_MASK, is_causal=1), "refused", "mask and causal"
    ),
    "bool mask and causal": _case(
        attention([BOOL_MASK], WITH_MASK, is_causal=1), "refused", "mask and causal"
    ),
    "past": _case(attention(PAST, ("q", "k", "v", "", "pk", "pv")), "refused", "past and present"),
    "past and present": _case(
        attention(PAST, ("q", "k", "v", "", "pk", "pv"), CACHED), "refused", "past and present"
    ),
    "present": _case(attention(outputs=CACHED), "refused", "past and present"),
    "scores": _case(attention(outputs=("o", "", "", "scores")), "refused", "scores as output"),
    "softcap": _case(attention(softcap=30.0), "refused", "softcap"),
    "softmax precision": _case(attention(softmax_precision=1), "refused", "softmax precision"),
    "float32": _case(attention(dtype=FLOAT), "refused", "dtype"),
    "smallest head": _case(attention(size=8), "refused", "head size"),
    "too large a head": _case(attention(size=264), "refused", "head size"),
    "odd head": _case(attention(size=20), "fused, at risk", "head size"),
    "one head": _case(attention(num=1), "refused", "heads"),
    "values of another size": _case(attention(value_size=128), "refused", "head size of values"),
    "mask of another dtype": _case(
        attention([value("mask", FLOAT, 1, 1, SEQ, SEQ)], WITH_MASK), "refused", "dtype of the mask"
    ),
    "in a loop": _case(inside_loop(), "refused", "control flow"),
    "in a scan": _case(inside_scan(), "refused", "control flow"),
    "in a condition": _case(inside_condition(), "refused", "control flow"),
}
"""One `Attention` each."""

LENGTHS = _case(
    attention([value("lengths", INT64, 1)], ("q", "k", "v", "", "", "", "lengths")),
    "wrong",
    "lengths",
)
"""The parser takes it, and drops the input."""

PARTS = {
    "parts": _case(in_parts(), "fused"),
    "parts, mask": _case(in_parts("mask"), "fused"),
    "parts, bool mask": _case(in_parts("bool mask"), "fused"),
    "parts, functions": _case(in_functions(), "fused"),
    "parts, NaN guard": _case(in_parts("bool mask", "NaN guard"), "fused, at risk", "NaN guard"),
    "parts, late scale": _case(in_parts("late scale"), "fused, at risk", "late scale"),
    "parts, island": _case(in_parts("island", "mask"), "fused, at risk", "float32 island"),
    "parts, dropout": _case(in_parts("dropout"), "fused, at risk", "between softmax and product"),
    "parts, softcap": _case(in_parts("softcap"), "unfused", "softcap"),
    "parts, sinks": _case(in_parts("sinks", seq=1024), "unfused", "attention sinks"),
    "parts, axis": _case(in_parts("axis"), "unfused", "axis"),
    "parts, softmax in parts": _case(
        in_parts("softmax in parts", seq=1024), "unfused", "softmax in parts"
    ),
    "parts, float32": _case(in_parts(dtype=FLOAT), "unfused", "dtype"),
    "parts, smallest head": _case(in_parts(size=8), "unfused", "head size"),
    "parts, too large a head": _case(in_parts(size=264), "unfused", "head size"),
    "parts, one head": _case(in_parts(num=1), "unfused", "heads"),
}
"""MatMul, Softmax, MatMul."""

CONTRIBUTED = {
    "MultiHeadAttention": _case(
        contributed("MultiHeadAttention", ("q", "k", "v"), num_heads=4), "fused"
    ),
    "MultiHeadAttention, bias": _case(
        contributed("MultiHeadAttention", ("q", "k", "v", "bias"), num_heads=4),
        *("refused", "contributed operator"),
    ),
    "MultiHeadAttention, packed": _case(
        contributed("MultiHeadAttention", ("q",), num_heads=4), "refused", "contributed operator"
    ),
    "MultiHeadAttention, present": _case(
        contributed("MultiHeadAttention", ("q", "k", "v"), ("o", "pk", "pv"), num_heads=4),
        *("refused", "contributed operator"),
    ),
    "MultiHeadAttention, unidirectional": _case(
        contributed("MultiHeadAttention", ("q", "k", "v"), num_heads=4, unidirectional=1), "fused"
    ),
    "GroupQueryAttention": _case(
        contributed("GroupQueryAttention", ("q", "k", "v"), num_heads=4, kv_num_heads=4, scale=0.1),
        *("refused", "contributed operator"),
    ),
    "Attention of com.microsoft": _case(
        contributed("Attention", ("x", "w", "b"), num_heads=4), "refused", "contributed operator"
    ),
}
"""ONNX Runtime's own operators."""

CASES = {**OPERATOR, **PARTS, **CONTRIBUTED}


def router() -> onnx.ModelProto:
    """A softmax between products that is no attention: of a router and of a head."""
    nodes = [
        helper.make_node("MatMul", ["q", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "w2"], ["o"]),
    ]
    weights = [
        helper.make_tensor("w", HALF, [SIZE, 8], [0.0] * SIZE * 8),
        helper.make_tensor("w2", HALF, [8, SIZE], [0.0] * SIZE * 8),
    ]
    return model(nodes, heads()[:1], [value("o", HALF, 1, HEADS, SEQ, SIZE)], constants=weights)
