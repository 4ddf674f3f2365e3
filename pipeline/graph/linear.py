"""Linear layers: stored as `[out_features, in_features]`, multiplied as its transpose."""

from __future__ import annotations

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.product import times
from pipeline.graph.weights import Joined, JoinedWeights


def linear(
    g: GraphBuilder,
    x: str,
    weight: Joined,
    bias: Joined | None,
    name: str,
    *,
    is_flat: bool = False,
) -> str:
    """`x @ weight.T + bias`: x `[b, s, in_features]` -> `[b, s, out_features]`.

    `is_flat`: x is `[tokens, in_features]`.
    """
    if g.flat_linear:
        return _gemm(g, x, weight, bias, name, is_flat)
    return times(g, x, g.weight(weight), name, None if bias is None else g.weight(bias))


def output_linear(g: GraphBuilder, weights: JoinedWeights, name: str, layer: int, x: str) -> str:
    """A layer's linear `name`, whose columns the ranks share; its bias, if any, is whole."""
    weight, bias = weights.split(f"{name}.weight", 1, layer), f"{name}.bias"
    return linear(g, x, weight, weights.whole_or_none(bias, layer), f"layers.{layer}.{name}")


def _gemm(
    g: GraphBuilder, x: str, weight: Joined, bias: Joined | None, name: str, is_flat: bool
) -> str:
    """The same by `Gemm`, which takes the weight as it lies, on `[tokens, in_features]` alone.

    ONNX Runtime's CPU provider packs it from there: no transposed copy is made at loading.
    """
    inputs = [g.weight(weight), *([g.weight(bias)] if bias is not None else [])]
    if is_flat:
        return g.node("Gemm", [x, *inputs], name, transB=1)
    outer, inner = weight.shape
    width = g.shared(f"shape.flat.{inner}", lambda n: g.constant(n, [-1, inner]))
    flat = g.node("Reshape", [x, width], f"{name}.tokens")
    made = g.node("Gemm", [flat, *inputs], f"{name}.gemm", transB=1)
    return g.node("Reshape", [made, _by_sequence(g, outer)], name)


def _by_sequence(g: GraphBuilder, width: int) -> str:
    """The shape `[b, s, width]`, worked out once for all layers of a width."""
    leading = g.shared("shape.step", lambda n: g.node("Shape", ["input_ids"], n))
    last = g.shared(f"shape.last.{width}", lambda n: g.constant(n, [width]))
    return g.shared(f"shape.step.{width}", lambda n: g.node("Concat", [leading, last], n, axis=0))
