"""The experts of a layer, with their weights out of the checkpoint."""

from __future__ import annotations

from pipeline.graph.description import Experts, Mlp
from pipeline.graph.experts import ExpertWeights, SharedWeights, mixture, shared_expert
from pipeline.graph.parts import Parts


def expert_layer(parts: Parts, experts: Experts, layer: int, hidden: str) -> str:
    """Experts, and the shared one where there is one, on `[b, s, hidden_size]`.

    TensorRT compiles all experts at once; ONNX Runtime reads only those that are chosen.
    """
    g, scope = parts.g, f"layers.{layer}.{experts.name}"
    made = mixture(
        g,
        experts.routing,
        experts.activation,
        _weights(parts, experts, layer),
        hidden,
        parts.hidden_size,
        f"{scope}.experts",
    )
    if experts.shared is None:
        return made
    shared = _shared(parts, experts.shared, f"{experts.name}.shared_expert_gate.weight", layer)
    everyone = shared_expert(g, experts.shared.activation, shared, hidden, f"{scope}.shared")
    return g.node("Add", [made, everyone], scope)


def _weights(parts: Parts, experts: Experts, layer: int) -> ExpertWeights:
    g, weights, name = parts.g, parts.weights, experts.name
    router = weights.whole(f"{name}.router.weight", layer)
    assert router.dtype == "float32"  # (TensorRT-LLM 1.2, `layers/moe.py`)
    fc, proj = f"{name}.fc.weight", f"{name}.proj.weight"
    num_parts = weights.num_expert_parts
    asked = g.weight(router, cast=False)
    if parts.dialect == "tensorrt":
        stacked = (
            g.weight(weights.experts(fc, layer, 1)),
            g.weight(weights.experts(proj, layer, 2)),
        )
        return ExpertWeights(asked, *stacked, num_parts)
    each = range(experts.routing.num_experts)
    return ExpertWeights(
        asked,
        [g.weight(weights.expert(fc, layer, 0, i)) for i in each],
        [g.weight(weights.expert(proj, layer, 1, i)) for i in each],
        num_parts,
    )


def _shared(parts: Parts, shared: Mlp, gate: str, layer: int) -> SharedWeights:
    g, weights = parts.g, parts.weights
    return SharedWeights(
        g.weight(weights.split(f"{shared.name}.fc.weight", 0, layer)),
        g.weight(weights.split(f"{shared.name}.proj.weight", 1, layer)),
        weights.tp_size,
        g.weight(weights.whole(gate, layer)) if weights.has(gate, layer) else None,
    )
