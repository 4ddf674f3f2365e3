"""Rotary tables against formulas in float64, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.errors import RecipeError
from pipeline.graph.rotary import rotary_tables
from pipeline.graph.rotary_description import Rotary, needs_long, rope_type, uses_two_tables
from pipeline.graph.rotary_problems import rotary_problems

PLAIN = Rotary(dim=12, base=10000.0, interleaved=False, max_position_embeddings=4096, scaling=None)
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
SHORT = (1.0, 1.02, 1.1, 1.3, 1.5, 2.0)
LONG = (1.0, 1.4, 9.0, 40.5, 41.0, 64.0)
PHI3 = replace(PLAIN, short_factors=SHORT, long_factors=LONG, original_max_position_embeddings=128)

Frequency = Callable[[int], float]


def plain(i: int) -> float:
    """Angle per position of pair `i`."""
    return float(PLAIN.base ** (-2 * i / PLAIN.dim))


def llama3(i: int) -> float:
    turns = 512 * plain(i) / (2 * math.pi)  # of the trained length
    blend = min(1.0, max(0.0, (turns - 1.0) / (4.0 - 1.0)))
    return (1 - blend) * plain(i) / 32 + blend * plain(i)


def yarn(fast: float, slow: float, *, truncate: bool = True) -> Frequency:
    """Pairs of more than `fast` turns within 1024 tokens are kept, up to `slow` stretched."""

    def dim_of(num_turns: float) -> float:
        return PLAIN.dim * math.log(1024 / (num_turns * 2 * math.pi)) / (2 * math.log(PLAIN.base))

    low, high = dim_of(fast), dim_of(slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, PLAIN.dim - 1)

    def frequency(i: int) -> float:
        ramp = min(1.0, max(0.0, (i - low) / (high - low)))
        return plain(i) / 4 * ramp + plain(i) * (1 - ramp)

    return frequency


def check(tables: Sequence[Any], frequency: Frequency, factor: float, first_row: int = 0) -> None:
    cos, sin = tables
    assert cos.dtype == sin.dtype == np.float32
    for i in range(PLAIN.dim // 2):
        for position in (0, 1, 37, 100, 127):
            angle = position * frequency(i)
            # fp32 angles, as transformers has them: their rounding grows with the position
            slack = 3e-7 * factor * (1 + angle)
            row = first_row + position
            assert cos[row, i] == pytest.approx(factor * math.cos(angle), abs=slack)
            assert sin[row, i] == pytest.approx(factor * math.sin(angle), abs=slack)


MAGNITUDE = 0.1 * math.log(4.0) + 1
SCALINGS: dict[str, tuple[dict[str, Any] | None, Frequency, float]] = {
    "none": (None, plain, 1.0),
    "default": ({"rope_type": "default"}, plain, 1.0),
    "linear": ({"rope_type": "linear", "factor": 8.0}, lambda i: plain(i) / 8, 1.0),
    "linear, old spelling": ({"type": "linear", "factor": 2}, lambda i: plain(i) / 2, 1.0),
    "dynamic": ({"rope_type": "dynamic", "factor": 4.0, "alpha": 1.0}, plain, 1.0),
    "llama3": (LLAMA3, llama3, 1.0),
    "yarn": (YARN, yarn(32, 1), MAGNITUDE),
    "yarn, factor from the length": ({**YARN, "factor": None}, yarn(32, 1), MAGNITUDE),
    "yarn, betas": ({**YARN, "beta_fast": 16.0, "beta_slow": 2.0}, yarn(16, 2), MAGNITUDE),
    "yarn, not cut": ({**YARN, "truncate": False}, yarn(32, 1, truncate=False), MAGNITUDE),
    "yarn, attention_factor": ({**YARN, "attention_factor": 0.75}, yarn(32, 1), 0.75),
    "yarn, equal mscales": ({**YARN, "mscale": 0.7, "mscale_all_dim": 0.7}, yarn(32, 1), 1.0),
    "yarn, one mscale": ({**YARN, "mscale": 0.7, "mscale_all_dim": 0}, yarn(32, 1), MAGNITUDE),
    "yarn, two mscales": (
        {**YARN, "mscale": 1.0, "mscale_all_dim": 0.5},
        yarn(32, 1),
        MAGNITUDE / (0.05 * math.log(4.0) + 1),
    ),
}


@pytest.mark.parametrize("name", SCALINGS)
def test_tables_hold_every_position(name: str) -> None:
    scaling, frequency, factor = SCALINGS[name]
    rotary = replace(PLAIN, scaling=scaling)
    tables = rotary_tables(rotary, 200)
    assert tables[0].shape == tables[1].shape == (200, 6)
    check(tables, frequency, factor)
    assert not uses_two_tables(rotary, 4096)


def short(i: int) -> float:
    return plain(i) / SHORT[i]


def long(i: int) -> float:
    return plain(i) / LONG[i]


EXTENDED = math.sqrt(1 + math.log(4096 / 128) / math.log(128))


def test_longrope_up_to_the_trained_length_has_one_table() -> None:
    tables = rotary_tables(PHI3, 128)
    assert len(tables[0]) == 128
    assert not uses_two_tables(PHI3, 128)
    check(tables, short, EXTENDED)


def test_longrope_beyond_has_a_table_for_short_and_one_for_long_sequences() -> None:
    tables = rotary_tables(PHI3, 129)
    assert len(tables[0]) == 2 * 129
    assert uses_two_tables(PHI3, 129)
    assert not needs_long(PHI3, 128)
    assert needs_long(PHI3, 129)
    check(tables, short, EXTENDED)
    check(tables, long, EXTENDED, first_row=129)


def test_longrope_may_have_a_factor_for_each_length() -> None:
    tables = rotary_tables(replace(PHI3, short_mscale=1.2, long_mscale=1.3), 200)
    check(tables, short, 1.2)
    check(tables, long, 1.3, first_row=200)


@pytest.mark.parametrize("kind", ["su", "longrope"])
def test_longrope_may_stand_in_the_scaling(kind: str) -> None:
    scaling: dict[str, Any] = {"type": kind, "short_factor": [*SHORT], "long_factor": [*LONG]}
    scaling |= {"original_max_position_embeddings": 128, "short_mscale": 1.2, "long_mscale": 1.3}
    rotary = replace(PLAIN, scaling=scaling)
    assert rope_type(rotary) == "longrope"
    given = replace(PHI3, short_mscale=1.2, long_mscale=1.3)
    assert np.array_equal(rotary_tables(rotary, 200), rotary_tables(given, 200))
    told = {name: scaling[name] for name in ("type", "short_factor", "long_factor")}
    told |= {"original_max_position_embeddings": 128}
    check(rotary_tables(replace(PLAIN, scaling={**told, "factor": 8.0}), 128), short, STRETCHED)
    check(rotary_tables(replace(PLAIN, scaling={**told, "attention_factor": 0.5}), 128), short, 0.5)


STRETCHED = math.sqrt(1 + math.log(8.0) / math.log(128))


def test_longrope_of_a_model_that_was_not_extended_is_not_magnified() -> None:
    rotary = replace(PHI3, original_max_position_embeddings=4096)
    check(rotary_tables(rotary, 128), short, 1.0)


FAULTS: dict[str, tuple[Rotary, int, str]] = {
    "odd": (replace(PLAIN, dim=11), 8, "11 dims of a head are rotated"),
    "base": (replace(PLAIN, base=0.0), 8, "the rotary base is 0.0, expected a number above 1"),
    "kind": (replace(PLAIN, scaling={"type": "mrope"}), 8, "of type `mrope`; supported: `default`"),
    "no factor": (replace(PLAIN, scaling={"type": "linear"}), 8, "has no `factor`"),
    "no length": (
        replace(PLAIN, scaling={"type": "yarn", "factor": 4.0}),
        8,
        "has no `original_max_position_embeddings`",
    ),
    "text": (
        replace(PLAIN, scaling={"type": "linear", "factor": "2"}),
        8,
        "`factor` `2`, expected",
    ),
    "zero": (replace(PLAIN, scaling={"type": "linear", "factor": 0}), 8, "a number above 0"),
    "negative": (replace(PLAIN, scaling={**YARN, "beta_fast": -1}), 8, "a number of 0 or more"),
    "truncate": (replace(PLAIN, scaling={**YARN, "truncate": 1}), 8, "expected true or false"),
    "unknown": (
        replace(PLAIN, scaling={**YARN, "mrope_section": [2, 2]}),
        8,
        "has the key `mrope_section`, which `yarn` does not have",
    ),
    "bases": (
        replace(PLAIN, scaling={"type": "default", "rope_theta": 500.0}),
        8,
        "two rotary bases disagree: 10000.0 and 500.0",
    ),
    "kinds": (
        replace(PLAIN, scaling={**YARN, "type": "linear"}),
        8,
        "`rope_type` and `type` of `rotary_scaling` disagree",
    ),
    "bounds": (
        replace(PLAIN, scaling={**LLAMA3, "low_freq_factor": 4.0}),
        8,
        "`low_freq_factor` 4.0 is not between 0 and `high_freq_factor` 4.0",
    ),
    "alpha": (
        replace(PLAIN, scaling={"type": "dynamic", "alpha": 1000.0}),
        8,
        "has the `alpha` 1000.0, which the decoder graph does not express",
    ),
    "growth": (
        replace(PLAIN, scaling={"type": "dynamic", "factor": 2.0}),
        4097,
        "dynamic NTK rotary scaling has no fixed positions beyond `max_position_embeddings`, 4096",
    ),
    "count": (replace(PHI3, long_factors=LONG[:5]), 8, "has 5 long factors for 12 rotated dims"),
    "one set": (replace(PHI3, short_factors=None), 8, "has 0 short factors for 12 rotated dims"),
    "factors": (replace(PHI3, short_factors=(*SHORT[:5], 0.0)), 8, "short factors that are not"),
    "untold": (
        replace(PHI3, original_max_position_embeddings=None),
        8,
        "`longrope` has no `original_max_position_embeddings`",
    ),
    "lengths": (
        replace(PHI3, scaling={"type": "su", "original_max_position_embeddings": 64}),
        8,
        "two `original_max_position_embeddings` disagree: 128 and 64",
    ),
    "one mscale": (replace(PHI3, long_mscale=1.1), 8, "without the other"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_no_table_can_say_is_a_problem(name: str) -> None:
    rotary, max_seq_len, message = FAULTS[name]
    (problem,) = rotary_problems(rotary, max_seq_len)
    assert message in problem.message
    assert problem.stage == "build"
    assert problem.hint
    with pytest.raises(RecipeError) as caught:
        rotary_tables(rotary, max_seq_len)
    assert caught.value.message == problem.message


def test_every_problem_is_told_at_once() -> None:
    rotary = replace(PLAIN, dim=7, scaling={"type": "llama3", "factor": 2.0})
    assert len(rotary_problems(rotary, 8)) == 4
    with pytest.raises(RecipeError) as caught:
        rotary_tables(rotary, 8)
    assert len(caught.value.facts) == 3
