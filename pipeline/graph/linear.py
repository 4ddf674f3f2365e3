"""Linear layers: stored as `[out_features, in_features]`, multiplied as its transpose."""

from __future__ import annotations

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.weights import Joined


def linear(g: GraphBuilder, x: str, weight: Joined, bias: Joined | None, name: str) -> str:
    """`x @ weight.T + bias`: x `[..., in_features]` -> `[..., out_features]`.

    The transpose is of a constant: ONNX Runtime folds it at loading, TensorRT at building.
    """
    turned = g.node("Transpose", [g.weight(weight)], f"{name}.weight_t", perm=[1, 0])
    if bias is None:
        return g.node("MatMul", [x, turned], name)
    return g.node("Add", [g.node("MatMul", [x, turned], f"{name}.matmul"), g.weight(bias)], name)
