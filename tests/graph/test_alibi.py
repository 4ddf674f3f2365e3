"""Slopes of ALiBi as the published code has them, and biases that are rounded as they are made."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.graph.alibi import alibi_slopes, rounded_biases
from pipeline.graph.builder import GraphBuilder
from pipeline.graph.description import Alibi, Attention
from pipeline.graph.positions import Form, Positions
from tests.graph.part_runs import Array, execute

HEADS, SLOTS, STEPS = 12, 400, 3
FIRST = np.array([0, 390])  # the slots where the tokens of this step begin


def test_slopes_of_a_power_of_two() -> None:
    assert alibi_slopes(Alibi(), 4) == [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]


def test_slopes_between_powers_of_two() -> None:
    below = [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]
    assert alibi_slopes(Alibi(), 6) == [*below, 2.0**-1, 2.0**-3]


def test_slopes_as_mpt_states_them() -> None:
    """Those of the power of two above, every other one first: the same."""
    many = [2.0 ** (-i / 2) for i in range(1, 17)]
    assert alibi_slopes(Alibi(), 12) == (many[1::2] + many[::2])[:12]


def test_slopes_fall_faster_with_a_larger_bias_and_are_scaled() -> None:
    assert alibi_slopes(Alibi(max_bias=16.0), 2) == [2.0**-8, 2.0**-16]
    assert alibi_slopes(Alibi(factor=0.5), 2) == [2.0**-5, 2.0**-9]


def test_biases_are_rounded_after_each_step() -> None:
    """2 ** -0.5 is 0.70703125 in bfloat16, 300 and its product with 300 need more than 8 bits."""
    found = rounded_biases(Alibi(factor=0.5, in_bfloat16=True), 12, 302)
    assert found.shape == (12, 302)
    root = found[8]  # the first of the power of two above
    assert root[1] == 0.70703125 / 2
    assert root[300] == 212.0 / 2
    assert root[301] == root[300]


@pytest.mark.parametrize("heads", [4, 6, 8])
def test_short_texts_of_few_heads_are_not_rounded(heads: int) -> None:
    found = rounded_biases(Alibi(in_bfloat16=True), heads, 257)
    exact = np.outer(alibi_slopes(Alibi(), heads), np.arange(257))
    np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("form", ["mask", "lengths"])
@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("in_bfloat16", [True, False])
def test_the_mask_of_a_graph(form: Form, fixed: bool, in_bfloat16: bool) -> None:
    alibi = Alibi(factor=0.5, in_bfloat16=in_bfloat16)
    rows, slots = FIRST[:, None] + np.arange(STEPS), np.arange(SLOTS)  # [b, s], [t]
    seen = slots <= rows[:, None, :, None]  # [b, 1, s, t]
    found = mask_of(alibi, form, fixed, seen)
    assert found.shape == (2, HEADS, STEPS, SLOTS)
    assert (found[np.broadcast_to(~seen, found.shape)] == np.finfo(np.float32).min).all()
    if in_bfloat16:
        expected = rounded_biases(alibi, HEADS, SLOTS)[None, :, None, :]
    else:
        distance = rows[:, None, :, None] - slots
        expected = -np.array(alibi_slopes(alibi, HEADS))[:, None, None] * distance
    np.testing.assert_allclose(
        np.where(seen, found, 0), np.where(seen, expected, 0).astype(np.float32), rtol=1e-6
    )


def mask_of(alibi: Alibi, form: Form, fixed: bool, seen: Array) -> Array:
    """The float mask that a graph makes for an attention: `[b, heads, s, t]`."""
    g = GraphBuilder("float32")
    g.input("input_ids", "int64", ["batch", "seq"])
    g.input("cache", "float32", ["batch", 1, "slots", 1])
    at = Positions(g, form, SLOTS, SLOTS if fixed else "slots", "cache")
    made = at.visible(Attention(HEADS, HEADS, 8, 1.0, alibi=alibi)).mask
    assert made is not None
    g.output(made, "float32", ["batch", HEADS, "seq", "slots"])
    feeds = {
        "input_ids": np.zeros((len(FIRST), STEPS), np.int64),
        "position_ids": np.zeros((len(FIRST), STEPS), np.int64),
        "cache": np.zeros((len(FIRST), 1, SLOTS, 1), np.float32),
        "write_indices": FIRST,
        "mask": seen,
    }
    return execute(g, {port.name: feeds[port.name] for port in g.inputs})[0]
