"""Activations against their formulas in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.graph.activation import ACTIVATIONS, activation, gated_halves, gegelu
from pipeline.graph.builder import GraphBuilder
from tests.graph.part_runs import Array, compile_part, execute, largest_error

X = np.linspace(-9, 9, 7 * 5 * 12).reshape(7, 5, 12)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def tanh_gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def exact_gelu(x: Array) -> Array:
    return x * np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)))(x)


FORMULAS: dict[str, Callable[[Array], Array]] = {
    "gelu": exact_gelu,
    "gelu_fast": tanh_gelu,
    "gelu_new": tanh_gelu,
    "gelu_pytorch_tanh": tanh_gelu,
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "silu": lambda x: x * sigmoid(x),
    "squared-relu": lambda x: np.maximum(x, 0) ** 2,
    "tanh": np.tanh,
}


def run(part: Callable[[GraphBuilder, str], str], x: Array) -> Array:
    g = GraphBuilder("float32")
    dims = [f"d{i}" for i in range(x.ndim - 1)]
    out = part(g, g.input("x", "float32", [*dims, x.shape[-1]]))
    g.output(out, "float32", [*dims, "last"])
    return execute(g, {"x": x.astype(np.float32)})[0]


def test_every_activation_has_a_formula() -> None:
    assert set(FORMULAS) == set(ACTIVATIONS)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activation(kind: str) -> None:
    found = run(lambda g, x: activation(g, kind, x, "act"), X)
    assert largest_error(found, FORMULAS[kind](X)) < 1e-6


def test_the_two_gelus_are_told_apart() -> None:
    exact = run(lambda g, x: activation(g, "gelu", x, "act"), X)
    by_tanh = run(lambda g, x: activation(g, "gelu_new", x, "act"), X)
    assert 1e-4 < np.abs(exact - by_tanh).max() < 1e-3


@pytest.mark.parametrize("kind", ["silu", "gelu"])
@pytest.mark.parametrize("num_parts", [1, 2, 3])
def test_the_last_half_is_activated(kind: str, num_parts: int) -> None:
    parts = np.split(X, num_parts, axis=-1)
    plain = np.concatenate([np.split(part, 2, axis=-1)[0] for part in parts], axis=-1)
    gate = np.concatenate([np.split(part, 2, axis=-1)[1] for part in parts], axis=-1)
    found = run(lambda g, x: gated_halves(g, kind, x, "gated", num_parts), X)
    assert largest_error(found, plain * FORMULAS[kind](gate)) < 1e-6


@pytest.mark.parametrize("limit", [None, 2.5])
def test_gegelu_takes_pairs_and_clamps_both(limit: float | None) -> None:
    gate, plain = X[..., ::2], X[..., 1::2]
    if limit is not None:
        gate, plain = np.minimum(gate, limit), np.clip(plain, -limit, limit)
    expected = gate * sigmoid(1.702 * gate) * (plain + 1)
    assert largest_error(run(lambda g, x: gegelu(g, x, 6, limit, "act"), X), expected) < 1e-6


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_tensorrt_compiles_them(dtype: str) -> None:
    g = GraphBuilder(dtype)
    x = g.input("x", dtype, ["b", 24])
    for kind in ACTIVATIONS:
        g.output(activation(g, kind, x, kind), dtype, ["b", 24])
    g.output(gated_halves(g, "silu", x, "gated"), dtype, ["b", 12])
    g.output(gated_halves(g, "silu", x, "gated_parts", 2), dtype, ["b", 12])
    row = g.node("Unsqueeze", [x, g.constant("axis", [1])], "row")
    g.output(gegelu(g, row, 12, 20.0, "gegelu"), dtype, ["b", 1, 12])
    assert compile_part(g, {"x": [(1, 24), (8, 24), (8, 24)]}) == 0
