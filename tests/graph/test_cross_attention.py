"""Cross attention against float64, as a decoder uses it: memory once, then any queries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.graph import masks
from pipeline.graph.builder import GraphBuilder, numpy_dtype
from pipeline.graph.cross_attention import (
    CrossHeads,
    CrossWeights,
    Memory,
    cross_attention,
    remember,
)
from tests.graph.part_runs import Array, compile_part, execute, largest_error
from tests.graph.references import attention
from tests.graph.tensorrt_compiling import Refused

SHAPES = {
    "hidden": [(1, 1, 48), (2, 8, 48), (2, 8, 48)],
    "states": [(1, 2, 40), (2, 30, 40), (2, 30, 40)],
}
BIASES = ("q_bias", "k_bias", "v_bias", "dense_bias")


def weights_of(
    rng: np.random.Generator, heads: CrossHeads, hidden: int, memory: int
) -> dict[str, Array]:
    q, kv = (n * heads.head_size for n in (heads.num_attention_heads, heads.num_key_value_heads))
    shapes = {"q": (q, hidden), "k": (kv, memory), "v": (kv, memory), "dense": (hidden, q)}
    shapes |= {"q_bias": (q,), "k_bias": (kv,), "v_bias": (kv,), "dense_bias": (hidden,)}
    return {name: rng.standard_normal(shape) * 0.4 for name, shape in shapes.items()}


def graph(
    heads: CrossHeads, made: dict[str, Array], masked: bool, dtype: str = "float32"
) -> GraphBuilder:
    """Memory and attention in one graph; with a mask, the states of a sequence have a length."""
    g = GraphBuilder(dtype)
    hidden, states, mask = inputs(g, made, masked=masked, dtype=dtype)
    g.output(part(g, heads, made, hidden, states, mask, "cross"), dtype, ["b", "s", "hidden"])
    return g


def inputs(
    g: GraphBuilder, made: dict[str, Array], *, masked: bool, dtype: str
) -> tuple[str, str, str | None]:
    hidden = g.input("hidden", dtype, ["b", "s", made["q"].shape[1]])
    states = g.input("states", dtype, ["b", "t", made["k"].shape[1]])
    if not masked:
        return hidden, states, None
    keys, lengths = g.input("keys", "int64", [1, "t"]), g.input("lengths", "int64", ["b"])
    return hidden, states, masks.below(g, keys, lengths, "mask")


def part(
    g: GraphBuilder,
    heads: CrossHeads,
    made: dict[str, Array],
    hidden: str,
    states: str,
    mask: str | None,
    name: str,
) -> str:
    dtype = numpy_dtype(g.compute_dtype)
    names = {key: g.constant(f"{name}.weight.{key}", a.astype(dtype)) for key, a in made.items()}
    weights = CrossWeights(**names)
    memory = remember(g, heads, weights, states, f"{name}.memory")
    return cross_attention(g, heads, weights, hidden, memory, mask, name)


def reference(
    heads: CrossHeads, made: dict[str, Array], hidden: Array, states: Array, lengths: Array
) -> Array:
    size = heads.head_size

    def split(x: Array, name: str) -> Array:
        flat = x @ made[name].T + made.get(f"{name}_bias", 0)
        return flat.reshape(*x.shape[:2], -1, size).transpose(0, 2, 1, 3)

    seen = (np.arange(states.shape[1]) < lengths[:, None])[:, None, None]
    # `attention` scales by the root of the head size; this part is given its scale.
    q = split(hidden, "q") * heads.scale * size**0.5
    context = attention(q, split(states, "k"), split(states, "v"), seen)
    joined = context.transpose(0, 2, 1, 3).reshape(*hidden.shape[:2], -1)
    return joined @ made["dense"].T + made.get("dense_bias", 0)


def check(heads: CrossHeads, rng: np.random.Generator, *, masked: bool, biased: bool) -> None:
    b, s, t, hidden_size, memory_size = (int(n) for n in rng.integers(1, 9, 5))
    made = weights_of(rng, heads, hidden_size, memory_size)
    if not biased:
        made = {name: a for name, a in made.items() if name not in BIASES}
    hidden = rng.standard_normal((b, s, hidden_size)).astype(np.float32)
    states = rng.standard_normal((b, t, memory_size)).astype(np.float32)
    lengths = rng.integers(0, t + 1, b) if masked else np.full(b, t)
    feeds = {"hidden": hidden, "states": states}
    if masked:
        feeds |= {"keys": np.arange(t)[None], "lengths": lengths}
    found = execute(graph(heads, made, masked), feeds)[0]
    right = reference(heads, made, hidden, states, lengths)
    assert np.abs(found - right).max() < 1e-5


@given(
    seed=st.integers(0, 2**32 - 1),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    size=st.integers(1, 9),
    masked=st.booleans(),
    biased=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_of_any_size(
    seed: int, kv_heads: int, group: int, size: int, masked: bool, biased: bool
) -> None:
    heads = CrossHeads(kv_heads * group, kv_heads, size, scale=0.3)
    check(heads, np.random.default_rng(seed), masked=masked, biased=biased)


def test_a_sequence_without_states_yields_the_bias_of_the_output() -> None:
    heads = CrossHeads(4, 2, 8, scale=0.5)
    rng = np.random.default_rng(3)
    made = weights_of(rng, heads, 12, 10)
    hidden = rng.standard_normal((2, 3, 12)).astype(np.float32)
    states = rng.standard_normal((2, 7, 10)).astype(np.float32)
    lengths = np.array([0, 5])
    feeds = {"hidden": hidden, "states": states, "keys": np.arange(7)[None], "lengths": lengths}
    found = execute(graph(heads, made, masked=True), feeds)[0]
    np.testing.assert_allclose(found[0], np.tile(made["dense_bias"], (3, 1)), rtol=1e-6)
    assert largest_error(found, reference(heads, made, hidden, states, lengths)) < 2e-6


def test_steps_on_a_kept_memory_equal_one_pass() -> None:
    heads = CrossHeads(6, 2, 8, scale=0.35)
    rng = np.random.default_rng(8)
    made = weights_of(rng, heads, 20, 14)
    hidden = rng.standard_normal((2, 5, 20)).astype(np.float32)
    states = rng.standard_normal((2, 7, 14)).astype(np.float32)
    whole = execute(graph(heads, made, masked=False), {"hidden": hidden, "states": states})[0]

    g = GraphBuilder("float32")
    names = {name: g.constant(name, a.astype(np.float32)) for name, a in made.items()}
    x = g.input("states", "float32", ["b", "t", 14])
    memory = remember(g, heads, CrossWeights(**names), x, "memory")
    for value in (memory.key, memory.value):
        g.output(value, "float32", ["b", 2, "t", 8])
    key, value = execute(g, {"states": states})
    assert key.shape == value.shape == (2, 2, 7, 8)

    g = step(heads, made, "float32")
    steps = [
        execute(g, {"hidden": hidden[:, [s]], "key": key, "value": value})[0] for s in range(5)
    ]
    assert largest_error(np.concatenate(steps, axis=1), whole) < 1e-6


def step(heads: CrossHeads, made: dict[str, Array], dtype: str) -> GraphBuilder:
    """Queries alone: the memory is an input."""
    g = GraphBuilder(dtype)
    names = {name: g.constant(name, a.astype(numpy_dtype(dtype))) for name, a in made.items()}
    size = made["q"].shape[1]
    x = g.input("hidden", dtype, ["b", "s", size])
    of = ["b", heads.num_key_value_heads, "t", heads.head_size]
    kept = Memory(*(g.input(name, dtype, of) for name in ("key", "value")))
    out = cross_attention(g, heads, CrossWeights(**names), x, kept, None, "cross")
    g.output(out, dtype, ["b", "s", size])
    return g


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_tensorrt_compiles_a_step_on_a_kept_memory_fused(dtype: str) -> None:
    heads = CrossHeads(4, 2, 64, scale=0.125)
    g = step(heads, weights_of(np.random.default_rng(1), heads, 48, 40), dtype)
    memory = [(1, 2, 2, 64), (2, 2, 30, 64), (2, 2, 30, 64)]
    hidden = [(1, 1, 48), (2, 1, 48), (2, 1, 48)]
    assert compile_part(g, {"hidden": hidden, "key": memory, "value": memory}) == 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_tensorrt_compiles_it_fused(dtype: str) -> None:
    g, rng = GraphBuilder(dtype), np.random.default_rng(1)
    every = [CrossHeads(4, kv_heads, 64, scale=0.125) for kv_heads in (1, 2, 4)]
    made = [weights_of(rng, heads, 48, 40) for heads in every]
    hidden, states, mask = inputs(g, made[0], masked=True, dtype=dtype)
    for number, heads in enumerate(every):
        for seen, name in ((mask, f"masked.{number}"), (None, f"cross.{number}")):
            out = part(g, heads, made[number], hidden, states, seen, name)
            g.output(out, dtype, ["b", "s", 48])
    shapes = SHAPES | {"keys": [(1, 2), (1, 30), (1, 30)], "lengths": [(1,), (2,), (2,)]}
    assert compile_part(g, shapes) == 6


def test_tensorrt_has_no_fused_kernel_in_fp32() -> None:
    # What the builds above prove: without a fused kernel there is no engine.
    heads = CrossHeads(4, 2, 64, scale=0.125)
    g = graph(heads, weights_of(np.random.default_rng(1), heads, 48, 40), masked=False)
    with pytest.raises(Refused, match="not supported by a dedicated kernel"):
        compile_part(g, SHAPES)
