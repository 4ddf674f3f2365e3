"""Normalisation parts: over the last dim, statistics in float32 whatever the compute dtype."""

from __future__ import annotations

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.description import Norm
from pipeline.graph.weights import Joined, JoinedWeights


def norm(
    g: GraphBuilder, weights: JoinedWeights, kind: Norm, stored: str, layer: int | None, x: str
) -> str:
    """The norm whose tensors are `<stored>.weight` and, where there is one, `<stored>.bias`.

    x `[..., hidden_size]`, weight and bias `[hidden_size]`.
    """
    bias = f"{stored}.bias"
    name = stored.removeprefix("transformer.") if layer is None else f"layers.{layer}.{stored}"
    return normed(
        g,
        kind,
        x,
        weights.whole(f"{stored}.weight", layer),
        weights.whole_or_none(bias, layer),
        name,
    )


def normed(
    g: GraphBuilder, kind: Norm, x: str, scale: Joined, bias: Joined | None, name: str
) -> str:
    """x `[..., width]`, scale and bias `[width]`.

    Statistics in float32 as in transformers and TensorRT-LLM (`layers/normalization.py`).
    """
    inputs = [x, g.weight(scale), *([g.weight(bias)] if bias is not None else [])]
    operator = "RMSNormalization" if kind.kind == "rms" else "LayerNormalization"
    assert kind.kind == "layer" or bias is None, name
    return g.node(operator, inputs, name, axis=-1, epsilon=kind.epsilon, stash_type=1)


def head_norm(
    g: GraphBuilder, weights: JoinedWeights, kind: Norm, part: str, layer: int, x: str, heads: int
) -> str:
    """The norm of every query or key head: x `[..., head_size]`.

    The weight is one for all heads, `[head_size]`, or one for each, `[heads, head_size]` (Cohere);
    then x is `[batch, seq, heads, head_size]`.
    """
    stored, name = f"attention.{part}_layernorm.weight", f"layers.{layer}.attention.{part}.normed"
    scale = weights.whole(stored, layer)
    if len(scale.shape) == 1:
        return normed(g, kind, x, scale, None, name)
    ones = g.shared("head_norm.ones", lambda n: g.ones(n, scale.shape[-1]))
    operator = "RMSNormalization" if kind.kind == "rms" else "LayerNormalization"
    plain = g.node(
        operator, [x, ones], f"{name}.plain", axis=-1, epsilon=kind.epsilon, stash_type=1
    )
    each = (
        weights.kv_split(stored, layer, heads) if part == "k" else weights.split(stored, 0, layer)
    )
    return g.node("Mul", [plain, g.weight(each)], name)
