"""A mixture of experts: gated MLPs, of which every token passes the few that its router chooses.

`T` tokens, `E` experts, `k` chosen ones, `H` the hidden size, `I` an expert's own size. ONNX has no
operator for it, so it is written in plain ones, in two ways:

- "all": every expert on every token, weighted. Few nodes and fixed shapes, which TensorRT compiles;
  all weights are read at every step.
- "chosen": tokens are sorted by expert, so that an expert is applied to its own tokens alone, and
  one that no token chose is not read. For ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.graph.activation import gated_halves
from pipeline.graph.builder import ONNX_DTYPES, GraphBuilder
from pipeline.graph.expert_description import Routing
from pipeline.graph.product import times
from pipeline.graph.routing import Chosen, all_weights, route


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """Values of the graph: stacked, or one of every expert, as the way wants them.

    `fc` holds the rows of the plain half and of the activated one (TensorRT-LLM 1.2
    `layers/moe.py`). `num_parts`: how many tensor-parallel parts were joined, each with both
    halves: the rows of `fc` are `[num_parts, 2, I / num_parts]`.
    """

    router: str  # float32 [E, H]
    fc: str | Sequence[str]  # [E, 2 * I, H], or E of [2 * I, H]
    proj: str | Sequence[str]  # [E, H, I], or E of [H, I]
    num_parts: int = 1
    correction_bias: str | None = None  # float32 [E]


@dataclass(frozen=True, slots=True)
class SharedWeights:
    """An expert that every token passes. `gate`: its sigmoid weighs it, where there is one."""

    fc: str  # [2 * S, H]
    proj: str  # [H, S]
    num_parts: int = 1
    gate: str | None = None  # [1, H]


def mixture(
    g: GraphBuilder,
    routing: Routing,
    kind: str,
    weights: ExpertWeights,
    hidden: str,
    hidden_size: int,
    name: str,
) -> str:
    """Experts with the activation `kind` on `[batch, seq, H]`, in the way that the weights are in.

    Stacked weights: all experts are computed. One weight of every expert: the chosen ones.
    """
    flat_shape = g.constant(f"{name}.flat_shape", [-1, hidden_size])
    flat = g.node("Reshape", [hidden, flat_shape], f"{name}.flat")  # [T, H]
    exact = flat
    if g.compute_dtype != "float32":
        exact = g.node("Cast", [flat], f"{name}.exact", to=ONNX_DTYPES["float32"])
    logits = times(g, exact, weights.router, f"{name}.router")  # float32 [T, E]
    chosen = route(g, routing, logits, f"{name}.route", weights.correction_bias)
    if isinstance(weights.fc, str):
        out = _all(g, kind, weights, flat, chosen, f"{name}.all")  # [T, H]
    else:
        out = _chosen(g, kind, weights, flat, chosen, f"{name}.each")  # [T, H]
    shape = g.node("Shape", [hidden], f"{name}.shape")
    return g.node("Reshape", [out, shape], name)  # [batch, seq, H]


def shared_expert(
    g: GraphBuilder, kind: str, weights: SharedWeights, hidden: str, name: str
) -> str:
    """The expert that every token passes, on `[batch, seq, H]`."""
    inner = times(g, hidden, weights.fc, f"{name}.fc")  # [batch, seq, 2 * S]
    inner = gated_halves(g, kind, inner, f"{name}.gated", weights.num_parts)  # [batch, seq, S]
    out = times(g, inner, weights.proj, f"{name}.proj")  # [batch, seq, H]
    if weights.gate is None:
        return out
    gate = times(g, hidden, weights.gate, f"{name}.gate")  # [batch, seq, 1]
    return g.node("Mul", [g.node("Sigmoid", [gate], f"{name}.share"), out], name)


def _all(
    g: GraphBuilder, kind: str, weights: ExpertWeights, flat: str, chosen: Chosen, name: str
) -> str:
    """Every expert on every token: `[T, H]` -> `[T, H]`."""
    assert isinstance(weights.fc, str)
    assert isinstance(weights.proj, str)
    fc = g.node("Transpose", [weights.fc], f"{name}.fc_t", perm=[0, 2, 1])  # [E, H, 2 * I]
    proj = g.node("Transpose", [weights.proj], f"{name}.proj_t", perm=[0, 2, 1])  # [E, I, H]
    inner = g.node("MatMul", [flat, fc], f"{name}.fc")  # [E, T, 2 * I]
    inner = gated_halves(g, kind, inner, f"{name}.gated", weights.num_parts)  # [E, T, I]
    outer = g.node("MatMul", [inner, proj], f"{name}.proj")  # [E, T, H]
    shares = g.cast(all_weights(g, chosen, f"{name}.weights"), "float32", f"{name}.shares")
    by_expert = g.node("Transpose", [shares], f"{name}.by_expert", perm=[1, 0])  # [E, T]
    last = g.constant(f"{name}.last", [-1])
    column = g.node("Unsqueeze", [by_expert, last], f"{name}.columns")  # [E, T, 1]
    weighted = g.node("Mul", [outer, column], f"{name}.weighted")
    return g.node("ReduceSum", [weighted, g.constant(f"{name}.of_experts", [0])], name, keepdims=0)


def _chosen(
    g: GraphBuilder, kind: str, weights: ExpertWeights, flat: str, chosen: Chosen, name: str
) -> str:
    """Every expert on its own tokens: `[T, H]` -> `[T, H]`."""
    order = _by_expert(g, chosen, len(weights.fc), f"{name}.order")
    x = g.node("Gather", [flat, order.tokens], f"{name}.sorted")  # [T * k, H]
    inner = _each(g, x, order.counts, weights.fc, f"{name}.fc")  # [T * k, 2 * I]
    inner = gated_halves(g, kind, inner, f"{name}.gated", weights.num_parts)  # [T * k, I]
    outer = _each(g, inner, order.counts, weights.proj, f"{name}.proj")  # [T * k, H]
    back = g.node("Gather", [outer, order.places], f"{name}.back")  # [T, k, H]
    shares = g.cast(chosen.weights, "float32", f"{name}.shares")
    last = g.constant(f"{name}.last", [-1])
    column = g.node("Unsqueeze", [shares, last], f"{name}.columns")  # [T, k, 1]
    weighted = g.node("Mul", [back, column], f"{name}.weighted")
    return g.node("ReduceSum", [weighted, g.constant(f"{name}.of_token", [1])], name, keepdims=0)


@dataclass(frozen=True, slots=True)
class _Order:
    """The `T * k` pairs of token and expert, sorted by expert, then by token."""

    tokens: str  # int64 [T * k]: the token of every pair
    counts: str  # int64 [E]: how many pairs an expert has
    places: str  # int64 [T, k]: where the pairs of a token are


def _by_expert(g: GraphBuilder, chosen: Chosen, num_experts: int, name: str) -> _Order:
    flags = g.node("Cast", [chosen.is_chosen], f"{name}.flags", to=ONNX_DTYPES["int64"])
    of_token, first = g.constant(f"{name}.of_token", [1]), g.constant(f"{name}.first", [0])
    pairs = g.node("ReduceSum", [flags, of_token], f"{name}.pairs", keepdims=0)  # [T, E]
    counts = g.node("ReduceSum", [pairs, first], f"{name}.counts", keepdims=0)  # [E]
    by_expert = g.node("Transpose", [pairs], f"{name}.by_expert", perm=[1, 0])  # [E, T]
    found = g.node("NonZero", [by_expert], f"{name}.found")  # [2, T * k], in the order of memory
    tokens = g.node("Gather", [found, g.constant(f"{name}.row", np.array(1))], f"{name}.tokens")
    # A pair's place is the number of pairs before it.
    flat = g.node("Reshape", [by_expert, g.constant(f"{name}.flat", [-1])], f"{name}.in_a_row")
    start = g.constant(f"{name}.axis", np.array(0))
    before = g.node("CumSum", [flat, start], f"{name}.before", exclusive=1)  # [E * T]
    shape = g.constant(f"{name}.shape", [num_experts, -1])
    before = g.node("Reshape", [before, shape], f"{name}.before_by_expert")  # [E, T]
    before = g.node("Transpose", [before], f"{name}.before_by_token", perm=[1, 0])  # [T, E]
    places = g.node("GatherElements", [before, chosen.indices], f"{name}.places", axis=1)
    return _Order(tokens, counts, places)


def _each(g: GraphBuilder, x: str, counts: str, matrices: Sequence[str], name: str) -> str:
    """Rows, split by counts, times the transpose of one matrix each: `[P, in]` -> `[P, out]`."""
    count = len(matrices)
    parts = g.several("Split", [x, counts], [f"{name}.rows{i}" for i in range(count)], axis=0)
    made = [
        g.node("Gemm", [part, matrix], f"{name}.expert{i}", transB=1)
        for i, (part, matrix) in enumerate(zip(parts, matrices, strict=True))
    ]
    return g.node("Concat", made, name, axis=0)
