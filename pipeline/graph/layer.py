"""One layer: attention and MLP, their norms, and how they are added to what went in."""

from __future__ import annotations

from pipeline.graph.attention import self_attention
from pipeline.graph.description import (
    Attention,
    Decoder,
    Experts,
    LatentAttention,
    Layer,
    Linear,
    Mlp,
)
from pipeline.graph.latent_attention import latent_attention
from pipeline.graph.linear import linear
from pipeline.graph.mixture import expert_layer
from pipeline.graph.mlp import dense_mlp
from pipeline.graph.norm import norm
from pipeline.graph.parts import Cache, Parts


def decoder_layer(
    parts: Parts, decoder: Decoder, layer: int, x: str, past: Cache | None
) -> tuple[str, Cache | None]:
    """A layer on `[b, s, hidden_size]`, and its updated cache, where it has attention."""
    shape = decoder.layers[layer]
    if shape.norm_after_residual:
        return _norms_after(parts, decoder, layer, x, past)
    entered = _norm(parts, decoder, layer, shape.attention_norm, x)
    attended, present = _attention(parts, shape, layer, entered, past)
    attended = _norm(parts, decoder, layer, shape.attention_out_norm, attended)
    if shape.parallel:
        same = shape.mlp_norm == shape.attention_norm
        inner = entered if same else _norm(parts, decoder, layer, shape.mlp_norm, x)
        x = _added(parts, shape, layer, x, attended, "after_attention")
        fed = _mlp(parts, shape, layer, inner)
    else:
        x = _added(parts, shape, layer, x, attended, "after_attention")
        fed = _mlp(parts, shape, layer, _norm(parts, decoder, layer, shape.mlp_norm, x))
    fed = _norm(parts, decoder, layer, shape.mlp_out_norm, fed)
    return _added(parts, shape, layer, x, fed, "after_mlp"), present


def _norms_after(
    parts: Parts, decoder: Decoder, layer: int, x: str, past: Cache | None
) -> tuple[str, Cache | None]:
    """`h = norm(x + attention(x))`, `y = norm(h + mlp(h))` (OPT-350m)."""
    shape = decoder.layers[layer]
    attended, present = _attention(parts, shape, layer, x, past)
    x = _added(parts, shape, layer, x, attended, "after_attention")
    x = _norm(parts, decoder, layer, shape.attention_norm, x)
    x = _added(parts, shape, layer, x, _mlp(parts, shape, layer, x), "after_mlp")
    return _norm(parts, decoder, layer, shape.mlp_norm, x), present


def _norm(parts: Parts, decoder: Decoder, layer: int, name: str | None, x: str | None) -> str:
    if name is None or x is None:
        return x or ""
    return norm(parts.g, parts.weights, decoder.norm, name, layer, x)


def _attention(
    parts: Parts, shape: Layer, layer: int, x: str, past: Cache | None
) -> tuple[str, Cache | None]:
    """What attention, or the linear layer in its place, yields; "" where there is neither."""
    match shape.attention:
        case None:
            return "", None
        case Linear(name):
            return _linear(parts, name, layer, x), None
        case Attention() as attention:
            assert past is not None
            return self_attention(parts, attention, layer, x, past)
        case LatentAttention() as attention:
            assert past is not None
            return latent_attention(parts, attention, layer, x, past)


def _mlp(parts: Parts, shape: Layer, layer: int, x: str) -> str:
    match shape.mlp:
        case None:
            return ""
        case Linear(name):
            return _linear(parts, name, layer, x)
        case Mlp() as mlp:
            return dense_mlp(parts.g, parts.weights, mlp, layer, x)
        case Experts() as experts:
            return expert_layer(parts, experts, layer, x)


def _linear(parts: Parts, name: str, layer: int, x: str) -> str:
    """A linear layer whose rows are split over the ranks (Nemotron-NAS)."""
    weight = parts.weights.split(f"{name}.weight", 0, layer)
    return linear(parts.g, x, weight, None, f"layers.{layer}.{name}")


def _added(parts: Parts, shape: Layer, layer: int, x: str, made: str, name: str) -> str:
    """The residual: `x + multiplier * made`; `x` where nothing was made."""
    if not made:
        return x
    name = f"layers.{layer}.{name}"
    scaled = parts.g.scaled(made, shape.residual_multiplier, f"{name}.scaled")
    return parts.g.node("Add", [x, scaled], name)
