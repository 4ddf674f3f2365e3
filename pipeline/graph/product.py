"""The product that every linear layer is, on values that are in the graph already."""

from __future__ import annotations

from pipeline.graph.builder import GraphBuilder


def times(g: GraphBuilder, x: str, weight: str, name: str, bias: str | None = None) -> str:
    """`x @ weight.T + bias`: x `[..., in]`, weight `[out, in]` -> `[..., out]`.

    The transpose is of a constant: ONNX Runtime folds it at loading, TensorRT at building.
    """
    turned = g.node("Transpose", [weight], f"{name}.weight_t", perm=[1, 0])
    if bias is None:
        return g.node("MatMul", [x, turned], name)
    return g.node("Add", [g.node("MatMul", [x, turned], f"{name}.matmul"), bias], name)
