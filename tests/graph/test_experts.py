"""Mixtures of experts against a float64 reference that applies the experts one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.graph.builder import GraphBuilder, numpy_dtype
from pipeline.graph.expert_description import Routing
from pipeline.graph.experts import ExpertWeights, SharedWeights, mixture, shared_expert
from tests.graph.part_runs import Array, compile_part, execute, largest_error, unstacked
from tests.graph.references import MODES, expected

WAYS = ("all", "chosen")


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def weights_of(rng: np.random.Generator, experts: int, hidden: int, inner: int) -> dict[str, Array]:
    """Random weights in float64, the halves of `fc` apart: plain, then activated."""
    return {
        "router": rng.standard_normal((experts, hidden)),
        "fc": rng.standard_normal((experts, 2, inner, hidden)) * 0.3,
        "proj": rng.standard_normal((experts, hidden, inner)) * 0.3,
    }


def reference(routing: Routing, made: dict[str, Array], hidden: Array) -> Array:
    """Every chosen expert of every token, one by one; hidden `[b, s, H]`."""
    single = {name: value.astype(np.float32).astype(np.float64) for name, value in made.items()}
    flat = hidden.reshape(-1, hidden.shape[-1]).astype(np.float32).astype(np.float64)
    shares = expected(routing, flat @ single["router"].T)
    out = np.zeros_like(flat)
    for token, row in enumerate(shares):
        for expert in np.flatnonzero(row):
            plain, gate = single["fc"][expert] @ flat[token]
            out[token] += row[expert] * (single["proj"][expert] @ (plain * silu(gate)))
    return out.reshape(hidden.shape)


def graph(routing: Routing, made: dict[str, Array], way: str, num_parts: int = 1) -> GraphBuilder:
    """A graph of one mixture."""
    g = GraphBuilder("float32")
    size = made["fc"].shape[-1]
    hidden = g.input("hidden", "float32", ["batch", "seq", size])
    out = add(g, routing, made, way, num_parts, hidden, "mlp")
    g.output(out, "float32", ["batch", "seq", size])
    return g


def add(
    g: GraphBuilder,
    routing: Routing,
    made: dict[str, Array],
    way: str,
    num_parts: int,
    hidden: str,
    name: str,
) -> str:
    """A mixture; the rows of `fc` are laid out as `num_parts` joined parts."""
    count, _, inner, size = made["fc"].shape
    dtype = numpy_dtype(g.compute_dtype)
    rows = made["fc"].reshape(count, 2, num_parts, inner // num_parts, size)
    rows = rows.transpose(0, 2, 1, 3, 4).reshape(count, 2 * inner, size)
    router = g.constant(f"{name}.router.weight", made["router"].astype(np.float32))
    fc = g.constant(f"{name}.fc.weight", rows.astype(dtype))
    proj = g.constant(f"{name}.proj.weight", made["proj"].astype(dtype))
    if way == "all":
        weights = ExpertWeights(router, fc, proj, num_parts)
    else:
        each = [unstacked(g, stacked, count, f"{stacked}s") for stacked in (fc, proj)]
        weights = ExpertWeights(router, each[0], each[1], num_parts)
    return mixture(g, routing, "silu", weights, hidden, size, name)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", MODES)
def test_every_routing_in_both_ways(way: str, mode: str) -> None:
    routing = Routing(num_experts=12, top_k=2, **MODES[mode])
    rng = np.random.default_rng(11)
    made, hidden = weights_of(rng, 12, 20, 14), rng.standard_normal((3, 5, 20))
    found = execute(graph(routing, made, way), {"hidden": hidden.astype(np.float32)})[0]
    assert largest_error(found, reference(routing, made, hidden)) < 2e-6


@given(
    seed=st.integers(0, 2**32 - 1),
    way=st.sampled_from(WAYS),
    sizes=st.tuples(*(st.integers(1, 7) for _ in range(5))),
    num_parts=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_any_size_and_any_number_of_joined_parts(
    seed: int, way: str, sizes: tuple[int, ...], num_parts: int
) -> None:
    batch, seq, hidden_size, part_size, experts = sizes
    rng = np.random.default_rng(seed)
    routing = Routing(experts, int(rng.integers(1, experts + 1)), renormalised=True)
    made = weights_of(rng, experts, hidden_size, num_parts * part_size)
    hidden = rng.standard_normal((batch, seq, hidden_size))
    found = execute(graph(routing, made, way, num_parts), {"hidden": hidden.astype(np.float32)})[0]
    assert largest_error(found, reference(routing, made, hidden)) < 1e-5


def test_experts_that_no_token_chose_change_nothing() -> None:
    # In the way "chosen" their weights are not even read: infinities in them would show.
    routing = Routing(num_experts=6, top_k=2)
    rng = np.random.default_rng(5)
    made, hidden = weights_of(rng, 6, 10, 8), rng.standard_normal((1, 1, 10))
    row = expected(routing, hidden[0].astype(np.float32) @ made["router"].T.astype(np.float32))[0]
    right = reference(routing, made, hidden)
    made["fc"][row == 0] = np.inf
    found = execute(graph(routing, made, "chosen"), {"hidden": hidden.astype(np.float32)})[0]
    assert largest_error(found, right) < 2e-6


def test_the_second_half_of_fc_is_activated() -> None:
    # A mutation that the tests above must see: the halves the other way round.
    routing = Routing(num_experts=4, top_k=1, renormalised=True)
    rng = np.random.default_rng(1)
    made, hidden = weights_of(rng, 4, 6, 8), rng.standard_normal((2, 3, 6))
    right = reference(routing, made, hidden)
    made["fc"] = made["fc"][:, ::-1]
    for way in WAYS:
        found = execute(graph(routing, made, way), {"hidden": hidden.astype(np.float32)})[0]
        assert largest_error(found, right) > 0.1


@pytest.mark.parametrize("num_parts", [1, 2])
@pytest.mark.parametrize("is_gated", [False, True], ids=["ungated", "gated"])
def test_shared_expert(num_parts: int, is_gated: bool) -> None:
    rng = np.random.default_rng(2)
    fc, proj = rng.standard_normal((2, 12, 10)), rng.standard_normal((10, 12))
    gate, hidden = rng.standard_normal((1, 10)), rng.standard_normal((2, 3, 10))
    rows = fc.reshape(2, num_parts, 12 // num_parts, 10).transpose(1, 0, 2, 3).reshape(24, 10)
    g = GraphBuilder("float32")
    x = g.input("hidden", "float32", ["batch", "seq", 10])
    names = {"fc": rows, "proj": proj, "gate": gate}
    values = {name: g.constant(name, a.astype(np.float32)) for name, a in names.items()}
    weights = SharedWeights(
        values["fc"], values["proj"], num_parts, values["gate"] if is_gated else None
    )
    g.output(shared_expert(g, "silu", weights, x, "shared"), "float32", ["batch", "seq", 10])
    found = execute(g, {"hidden": hidden.astype(np.float32)})[0]
    right = ((hidden @ fc[0].T) * silu(hidden @ fc[1].T)) @ proj.T
    if is_gated:
        right /= 1 + np.exp(-(hidden @ gate.T))
    assert largest_error(found, right) < 2e-6


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_tensorrt_compiles_all_experts(dtype: str) -> None:
    g, rng = GraphBuilder(dtype), np.random.default_rng(4)
    value = g.input("hidden", dtype, ["batch", "seq", 32])
    for mode, numbers in MODES.items():
        routing = Routing(num_experts=8, top_k=2, **numbers)
        value = add(g, routing, weights_of(rng, 8, 32, 48), "all", 2, value, mode)
    g.output(value, dtype, ["batch", "seq", 32])
    assert compile_part(g, {"hidden": [(1, 1, 32), (2, 16, 32), (2, 16, 32)]}) == 0
