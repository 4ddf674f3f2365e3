"""Routing against references in float64, written one token at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.expert_description import Routing
from pipeline.graph.routing import all_weights, route
from tests.graph.part_runs import Array, execute
from tests.graph.references import MODES, expected


def run(routing: Routing, logits: Array, bias: Array | None = None) -> Array:
    """Weights `[T, E]` of the graph."""
    g = GraphBuilder("float32")
    x = g.input("logits", "float32", ["tokens", routing.num_experts])
    b = None if bias is None else g.constant("bias", bias.astype(np.float32))
    chosen = route(g, routing, x, "route", b)
    g.output(all_weights(g, chosen, "weights"), "float32", ["tokens", routing.num_experts])
    g.output(chosen.indices, "int64", ["tokens", routing.top_k])
    g.output(chosen.weights, "float32", ["tokens", routing.top_k])
    spread, indices, weights = execute(g, {"logits": logits.astype(np.float32)})
    for token, row in enumerate(indices):
        assert len(set(row)) == routing.top_k
        assert np.array_equal(spread[token, row], weights[token])
    assert np.count_nonzero(spread) <= indices.size
    return spread


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tokens", [1, 37])
def test_weights(mode: str, tokens: int) -> None:
    routing = Routing(num_experts=16, top_k=2 if mode == "sparse mixer" else 5, **MODES[mode])
    logits = np.random.default_rng(7).standard_normal((tokens, 16)) * 3
    np.testing.assert_allclose(
        run(routing, logits), expected(routing, logits), rtol=2e-6, atol=1e-7
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    mode=st.sampled_from(sorted(MODES)),
    tokens=st.integers(1, 9),
    in_group=st.integers(2, 5),
    top_k=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_weights_of_any_size(seed: int, mode: str, tokens: int, in_group: int, top_k: int) -> None:
    routing = Routing(num_experts=4 * in_group, top_k=top_k, **MODES[mode])
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((tokens, routing.num_experts)) * rng.uniform(0.1, 10)
    np.testing.assert_allclose(
        run(routing, logits), expected(routing, logits), rtol=5e-6, atol=1e-7
    )


def test_a_correction_bias_chooses_but_does_not_weigh() -> None:
    routing = Routing(8, 2, "sigmoid", num_groups=2, top_groups=1, group_score="sum_of_two")
    rng = np.random.default_rng(3)
    logits, bias = rng.standard_normal((29, 8)), rng.standard_normal(8)
    found = run(routing, logits, bias)
    np.testing.assert_allclose(found, expected(routing, logits, bias), rtol=2e-6, atol=1e-7)
    assert not np.array_equal(found > 0, run(routing, logits) > 0)


@pytest.mark.parametrize("mode", MODES)
def test_of_equal_logits_the_lower_expert_is_chosen(mode: str) -> None:
    routing = Routing(num_experts=8, top_k=2, **MODES[mode])
    found = run(routing, np.zeros((3, 8)))
    assert [np.flatnonzero(row).tolist() for row in found] == [[0, 1]] * 3


def test_huge_logits_stay_finite() -> None:
    logits = np.array([[1e4, -1e4, 0.0, 5e3], [-1e4, -1e4, -1e4, -9e3]])
    for mode in ("plain", "renormalised", "sigmoid of all", "sparse mixer"):
        routing = Routing(num_experts=4, top_k=2, **MODES[mode])
        assert np.isfinite(run(routing, logits)).all()


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ({"top_k": 0}, "0 of 8 experts cannot be chosen"),
        ({"top_k": 9}, "9 of 8 experts cannot be chosen"),
        ({"num_groups": 3}, "8 experts cannot be put in 3 groups"),
        ({"num_groups": 0}, "8 experts cannot be put in 0 groups"),
        ({"num_groups": 4, "top_groups": 5}, "5 of 4 groups cannot be chosen"),
        ({"num_groups": 4, "top_groups": 1, "top_k": 3}, "1 groups of 2 have no 3 experts"),
        (
            {"num_groups": 8, "top_groups": 4, "group_score": "sum_of_two"},
            "groups of one expert have no best two",
        ),
    ],
)
def test_numbers_that_cannot_be(numbers: dict[str, Any], problem: str) -> None:
    assert Routing(**{"num_experts": 8, "top_k": 2} | numbers).problems() == [problem]


def test_numbers_that_can_be() -> None:
    for mode in MODES.values():
        assert Routing(num_experts=8, top_k=2, **mode).problems() == []
