"""The router of a mixture of experts: which experts a token passes, and what they weigh.

`T` tokens, `E` experts, `k` chosen ones. All of it is computed in float32, as in TensorRT-LLM: a
rounded logit would choose another expert. Of equal scores the lower expert is chosen (ONNX `TopK`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.graph.builder import ONNX_DTYPES, GraphBuilder
from pipeline.graph.expert_description import Routing

LOWEST = float(np.finfo(np.float32).min)
"""Finite, so that a difference of two stays a number."""

NO_DIVISION_BY_ZERO = 1e-20
"""Added to a sum of sigmoids (transformers 5.24 `modeling_deepseek_v3.py`)."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The experts of every token: values of the graph."""

    indices: str  # int64 [T, k]
    weights: str  # float32 [T, k]
    is_chosen: str  # bool [T, k, E]: one true value in every row


def route(
    g: GraphBuilder, routing: Routing, logits: str, name: str, bias: str | None = None
) -> Chosen:
    """Choose experts by logits, float32 `[T, E]`; `bias`, `[E]`, is added for the choice alone."""
    assert not routing.problems(), routing.problems()
    if routing.scoring == "sparse_mixer":
        indices, weights = _sparse_mixer(g, routing, logits, name)
    else:
        indices, weights = _best(g, routing, logits, bias, name)
    if routing.scaling != 1.0:
        factor = g.constant(f"{name}.scaling", np.array(routing.scaling, np.float32))
        weights = g.node("Mul", [weights, factor], f"{name}.scaled")
    return Chosen(indices, weights, _is_chosen(g, indices, routing.num_experts, f"{name}.chosen"))


def all_weights(g: GraphBuilder, chosen: Chosen, name: str) -> str:
    """What every expert weighs for every token, float32 `[T, E]`; 0 where it is not chosen."""
    weights = g.node("Unsqueeze", [chosen.weights, _last_axis(g, name)], f"{name}.columns")
    zero = g.constant(f"{name}.zero", np.array(0, np.float32))
    apart = g.node("Where", [chosen.is_chosen, weights, zero], f"{name}.apart")  # [T, k, E]
    return g.node("ReduceSum", [apart, g.constant(f"{name}.of_token", [1])], name, keepdims=0)


def _best(
    g: GraphBuilder, routing: Routing, logits: str, bias: str | None, name: str
) -> tuple[str, str]:
    """The best scores: indices and weights `[T, k]`."""
    softmax = routing.scoring == "softmax"
    kind = "Softmax" if softmax else "Sigmoid"
    scores = g.node(kind, [logits], f"{name}.scores", **({"axis": -1} if softmax else {}))
    ranked = scores if bias is None else g.node("Add", [scores, bias], f"{name}.ranked")
    if routing.num_groups > 1:
        ranked = _in_best_groups(g, routing, ranked, f"{name}.groups")
    _, indices = _top(g, ranked, routing.top_k, f"{name}.best")
    weights = g.node("GatherElements", [scores, indices], f"{name}.weights", axis=1)
    if not routing.renormalised:
        return indices, weights
    axis = g.constant(f"{name}.of_token", [1])
    total = g.node("ReduceSum", [weights, axis], f"{name}.total", keepdims=1)  # [T, 1]
    if not softmax:
        tiny = g.constant(f"{name}.tiny", np.array(NO_DIVISION_BY_ZERO, np.float32))
        total = g.node("Add", [total, tiny], f"{name}.divisor")
    return indices, g.node("Div", [weights, total], f"{name}.renormalised")


def _in_best_groups(g: GraphBuilder, routing: Routing, scores: str, name: str) -> str:
    """Scores `[T, E]`, the lowest number outside of the best groups (`G` groups)."""
    split = g.constant(f"{name}.split", [0, routing.num_groups, -1])
    grouped = g.node("Reshape", [scores, split], f"{name}.grouped")  # [T, G, E / G]
    num_best = 1 if routing.group_score == "max" else 2
    best, _ = _top(g, grouped, num_best, f"{name}.members")  # [T, G, 1 or 2]
    of_group = g.constant(f"{name}.of_group", [2])
    score = g.node("ReduceSum", [best, of_group], f"{name}.score", keepdims=0)  # [T, G]
    _, groups = _top(g, score, routing.top_groups, f"{name}.best")
    chosen = _is_chosen(g, groups, routing.num_groups, f"{name}.is_best")
    count = g.node("Cast", [chosen], f"{name}.count", to=ONNX_DTYPES["float32"])
    any_axis = g.constant(f"{name}.of_choice", [1])
    kept = g.node("ReduceMax", [count, any_axis], f"{name}.kept", keepdims=0)  # [T, G]
    kept = g.node("Cast", [kept], f"{name}.open", to=ONNX_DTYPES["bool"])
    kept = g.node("Unsqueeze", [kept, _last_axis(g, name)], f"{name}.columns")  # [T, G, 1]
    lowest = g.constant(f"{name}.lowest", np.array(LOWEST, np.float32))
    masked = g.node("Where", [kept, grouped, lowest], f"{name}.masked")  # [T, G, E / G]
    joined = g.constant(f"{name}.joined", [0, routing.num_experts])
    return g.node("Reshape", [masked, joined], name)


def _sparse_mixer(g: GraphBuilder, routing: Routing, logits: str, name: str) -> tuple[str, str]:
    """The best expert, then the best of the others: indices and weights `[T, k]`.

    Rivals that are too far below the best take no part in its softmax: farther than `2 * epsilon`
    of the larger of their own size and the best (transformers 5.24 `modeling_phimoe.py`).
    """
    limit = g.constant(f"{name}.limit", np.array(2 * routing.epsilon, np.float32))
    lowest = g.constant(f"{name}.lowest", np.array(LOWEST, np.float32))
    experts = g.constant(f"{name}.experts", list(range(routing.num_experts)))
    axis = g.constant(f"{name}.of_token", [1])
    size = g.node("Abs", [logits], f"{name}.size")
    left, indices, weights = logits, [], []
    for turn in range(routing.top_k):
        scope = f"{name}.turn{turn}"
        best = g.node("ReduceMax", [left, axis], f"{scope}.best", keepdims=1)  # [T, 1]
        index = g.node("ArgMax", [left], f"{scope}.index", axis=1, keepdims=1)  # [T, 1]
        below = g.node("Sub", [best, logits], f"{scope}.below")  # [T, E]
        divisor = g.node("Max", [size, best], f"{scope}.divisor")
        ratio = g.node("Div", [below, divisor], f"{scope}.ratio")
        far = g.node("Greater", [ratio, limit], f"{scope}.far")
        rivals = g.node("Where", [far, lowest, left], f"{scope}.rivals")
        shares = g.node("Softmax", [rivals], f"{scope}.shares", axis=-1)
        weights.append(g.node("ReduceMax", [shares, axis], f"{scope}.weight", keepdims=1))
        indices.append(index)
        taken = g.node("Equal", [index, experts], f"{scope}.taken")  # [T, E]
        left = g.node("Where", [taken, lowest, left], f"{scope}.left")
    return (
        g.node("Concat", indices, f"{name}.best", axis=1),
        g.node("Concat", weights, f"{name}.weights", axis=1),
    )


def _top(g: GraphBuilder, values: str, count: int, name: str) -> list[str]:
    """The largest values of the last axis and their indices, of equal ones the first."""
    k = g.constant(f"{name}.k", [count])
    return g.several("TopK", [values, k], [f"{name}.values", f"{name}.indices"], axis=-1)


def _is_chosen(g: GraphBuilder, indices: str, count: int, name: str) -> str:
    """Indices `[T, k]` as rows of flags, bool `[T, k, count]`."""
    column = g.node("Unsqueeze", [indices, _last_axis(g, name)], f"{name}.columns")
    numbers = g.constant(f"{name}.numbers", list(range(count)))
    return g.node("Equal", [column, numbers], name)


def _last_axis(g: GraphBuilder, name: str) -> str:
    return g.constant(f"{name}.last_axis", [-1])
