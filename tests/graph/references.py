"""Routing and attention in float64, one token at a time: what the graph's parts are held to."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.graph.expert_description import Routing
from tests.graph.part_runs import Array

MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "renormalised": {"renormalised": True},
    "scaled": {"scaling": 2.5, "num_groups": 4, "top_groups": 2},
    "sigmoid": {
        "scoring": "sigmoid",
        "renormalised": True,
        "scaling": 2.5,
        "num_groups": 4,
        "top_groups": 2,
        "group_score": "sum_of_two",
    },
    "sigmoid of all": {"scoring": "sigmoid", "scaling": 1.5},
    "sparse mixer": {"scoring": "sparse_mixer", "epsilon": 0.1},
}


def best(values: list[float], count: int) -> list[int]:
    """The largest values, of equal ones the first."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]


def expected(routing: Routing, logits: Array, bias: Array | None = None) -> Array:
    bias = np.zeros(routing.num_experts) if bias is None else bias
    mixer = routing.scoring == "sparse_mixer"
    rows = [
        sparse_mixer(routing, row) if mixer else token_weights(routing, row, bias)
        for row in logits.astype(np.float32).astype(np.float64)
    ]
    return np.array(rows) * routing.scaling


def token_weights(routing: Routing, row: Array, bias: Array) -> list[float]:
    if routing.scoring == "softmax":
        scores = np.exp(row - row.max())
        scores /= scores.sum()
    else:
        scores = 1 / (1 + np.exp(-row))
    ranked = [float(v) for v in (scores + bias.astype(np.float32)).astype(np.float32)]
    size = routing.num_experts // routing.num_groups
    groups = [ranked[i * size : (i + 1) * size] for i in range(routing.num_groups)]
    num_best = 1 if routing.group_score == "max" else 2
    of_group = [sum(sorted(group)[-num_best:]) for group in groups]
    kept = best(of_group, routing.top_groups)
    open_to = [ranked[e] if e // size in kept else -np.inf for e in range(routing.num_experts)]
    chosen = best(open_to, routing.top_k)
    total = sum(scores[e] for e in chosen) if routing.renormalised else 1.0
    return [float(scores[e]) / total if e in chosen else 0.0 for e in range(routing.num_experts)]


def sparse_mixer(routing: Routing, row: Array) -> list[float]:
    weights = [0.0] * routing.num_experts
    left = list(range(routing.num_experts))
    for _ in range(routing.top_k):
        first = max(left, key=lambda e: (row[e], -e))
        top = row[first]
        rivals = [e for e in left if (top - row[e]) / max(abs(row[e]), top) <= 2 * routing.epsilon]
        weights[first] = 1 / sum(np.exp(row[e] - top) for e in rivals)
        left.remove(first)
    return weights


def attention(q: Array, k: Array, v: Array, seen: Array, bias: Array | None = None) -> Array:
    """Float64 attention; K/V heads are shared by groups of query heads, blind queries get 0."""
    groups = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
    logits = np.einsum("bnsd,bntd->bnst", q, k) / np.sqrt(q.shape[-1])
    if bias is not None:
        logits = logits + bias
    seen = np.broadcast_to(seen, logits.shape)
    out = np.zeros((*logits.shape[:3], v.shape[-1]))
    for b, n, s in np.ndindex(*logits.shape[:3]):
        open_to = np.flatnonzero(seen[b, n, s])
        if open_to.size:
            row = np.exp(logits[b, n, s, open_to] - logits[b, n, s, open_to].max())
            out[b, n, s] = (row / row.sum()) @ v[b, n, open_to]
    return out
