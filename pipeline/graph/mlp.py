"""The gated MLP and its activations."""

from __future__ import annotations

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.config import DecoderConfig
from pipeline.graph.linear import linear
from pipeline.graph.weights import Joined, JoinedWeights


def gated_mlp(
    g: GraphBuilder, config: DecoderConfig, weights: JoinedWeights, layer: int, hidden: str
) -> str:
    """`proj(act(fc(x)) * gate(x))` on `[batch, seq, hidden_size]`.

    The target names mislead: `fc` is Hugging Face's `gate_proj` (activated), `gate` is `up_proj`
    (TensorRT-LLM 1.2, `layers/mlp.py`).
    """
    scope = f"layers.{layer}.mlp"
    inner, outer = config.intermediate_size, config.hidden_size

    def project(name: str, x: str, shape: tuple[int, int], split_dim: int) -> str:
        weight = weights.split(f"mlp.{name}.weight", shape, split_dim, layer)
        return linear(
            g, x, weight, _bias(config, weights, layer, name, shape[0]), f"{scope}.{name}"
        )

    activated = project("fc", hidden, (inner, outer), 0)  # [batch, seq, intermediate_size]
    activated = activation(g, config.hidden_act, activated, f"{scope}.act")
    gate = project("gate", hidden, (inner, outer), 0)  # [batch, seq, intermediate_size]
    gated = g.node("Mul", [activated, gate], f"{scope}.gated")
    return project("proj", gated, (outer, inner), 1)  # [batch, seq, hidden_size]


def activation(g: GraphBuilder, hidden_act: str, x: str, name: str) -> str:
    """An activation by its Hugging Face name, of any shape."""
    if hidden_act == "silu":
        return g.node("Mul", [x, g.node("Sigmoid", [x], f"{name}.sigmoid")], name)
    if hidden_act == "relu":
        return g.node("Relu", [x], name)
    return g.node("Gelu", [x], name, approximate="none" if hidden_act == "gelu" else "tanh")


def _bias(
    config: DecoderConfig, weights: JoinedWeights, layer: int, name: str, size: int
) -> Joined | None:
    """Biases `[out_features]`: split with the rows, but whole where the columns are split."""
    if not config.mlp_bias:
        return None
    if name == "proj":
        return weights.whole(f"mlp.{name}.bias", (size,), layer)
    return weights.split(f"mlp.{name}.bias", (size,), 0, layer)
