"""Dense MLPs, plain and gated; t stands for `[b, s, ...]`."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.graph.activation import activation, gegelu
from pipeline.graph.builder import GraphBuilder
from pipeline.graph.description import Mlp
from pipeline.graph.linear import linear, output_linear
from pipeline.graph.weights import Joined, JoinedWeights


def dense_mlp(g: GraphBuilder, weights: JoinedWeights, mlp: Mlp, layer: int, hidden: str) -> str:
    """`proj(act(fc(x)))` or `proj(act(fc(x)) * gate(x))` on `[b, s, hidden_size]`.

    The target names mislead: `fc` is Hugging Face's `gate_proj` (activated), `gate` is `up_proj`
    (TensorRT-LLM 1.2, `layers/mlp.py`). In a fused `fc` the rows of `up_proj` come first.
    """
    scope, size = f"layers.{layer}.{mlp.name}", mlp.intermediate_size
    stored = f"{mlp.name}.fc"
    if mlp.gate in ("none", "apart"):
        inner = activation(
            g, mlp.activation, _split(g, weights, stored, layer, hidden, scope), f"{scope}.act"
        )
        if mlp.gate == "apart":
            gate = _split(g, weights, f"{mlp.name}.gate", layer, hidden, scope)
            inner = g.node("Mul", [inner, gate], f"{scope}.gated")
    elif mlp.gate == "gegelu":
        both = _split(g, weights, stored, layer, hidden, scope)
        inner = gegelu(g, both, size, mlp.limit, f"{scope}.gated")
    else:
        first, second = (_block(g, weights, stored, layer, hidden, (size, size), i) for i in (0, 1))
        activated = activation(g, mlp.activation, second, f"{scope}.act")
        inner = g.node("Mul", [activated, first], f"{scope}.gated")
    return output_linear(g, weights, f"{mlp.name}.proj", layer, inner)  # [b, s, hidden_size]


def _split(
    g: GraphBuilder, weights: JoinedWeights, name: str, layer: int, x: str, scope: str
) -> str:
    """A linear layer whose rows are split: `[b, s, hidden_size]` -> `[b, s, intermediate_size]`."""
    bias = _bias(weights, f"{name}.bias", layer, 0)
    weight = weights.split(f"{name}.weight", 0, layer)
    return linear(g, x, weight, bias, f"{scope}.{name.rpartition('.')[2]}")


def _block(
    g: GraphBuilder,
    weights: JoinedWeights,
    name: str,
    layer: int,
    x: str,
    sizes: Sequence[int],
    index: int,
) -> str:
    """One of the linear layers, without bias, that a tensor holds one after the other."""
    weight = weights.block(f"{name}.weight", sizes, index, layer)
    return linear(g, x, weight, None, f"layers.{layer}.{name}.{index}")


def _bias(weights: JoinedWeights, name: str, layer: int, dim: int) -> Joined | None:
    return weights.split(name, dim, layer) if weights.has(name, layer) else None
