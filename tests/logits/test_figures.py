"""Figures of two sets of logits, thresholds, and the search for the layer that departs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.parity.bisection import first_departure
from pipeline.parity.comparison import Comparison, Figures, Logits, Place, compare
from pipeline.parity.sequences import num_decoded, random_sequences
from pipeline.parity.thresholds import EXACT, ROUNDED, Thresholds, choose
from pipeline.recipe.verify_section import Verify

EXPECTED = [np.array([[3.0, 4.0], [0.0, -2.0]], np.float32), np.array([[1.0, 0.0]], np.float32)]
ANY = Thresholds(min_cosine=0.5, max_norm_error=0.5, max_relative_error=0.5)


def changed(sequence: int, row: int, column: int, value: float) -> list[Logits]:
    found = [one.copy() for one in EXPECTED]
    found[sequence][row, column] = value
    return found


def test_equal_logits_have_no_error() -> None:
    found = compare(EXPECTED, EXPECTED, EXACT)
    assert found == Comparison(Figures(1.0, 0.0, 0.0), Figures(1.0, 0.0, 0.0), 3, None)
    assert found.agrees


def test_the_worst_position_counts_and_is_named() -> None:
    found = compare(changed(0, 1, 0, 1.5), EXPECTED, ANY)
    assert found.worst == Figures(
        cosine=pytest.approx(0.8), norm_error=pytest.approx(0.25), relative_error=0.75
    )
    assert found.first == Place(0, 1)
    assert not found.agrees
    norms = math.sqrt(30) * math.sqrt(30 + 1.5**2)
    assert found.overall.cosine == pytest.approx(30 / norms)
    assert found.overall.relative_error == 1.5 / 4


def test_each_threshold_is_held_by_itself() -> None:
    scaled = [one * np.float32(1.25) for one in EXPECTED]
    assert compare(scaled, EXPECTED, Thresholds(1.0, 0.3, 0.3)).agrees
    assert not compare(scaled, EXPECTED, Thresholds(1.0, 0.2, 0.3)).agrees
    assert not compare(scaled, EXPECTED, Thresholds(1.0, 0.3, 0.2)).agrees
    turned = changed(1, 0, 1, 0.1)
    assert compare(turned, EXPECTED, Thresholds(0.99, 0.3, 0.3)).agrees
    assert compare(turned, EXPECTED, Thresholds(0.999, 0.3, 0.3)).first == Place(1, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("ours", [True, False])
def test_what_is_not_finite_never_agrees(value: float, ours: bool) -> None:
    broken = changed(0, 1, 1, value)
    pair = (broken, EXPECTED) if ours else (EXPECTED, broken)
    assert compare(*pair, Thresholds(0.01, 1e30, 1e30)).first == Place(0, 1)


def test_logits_that_are_all_zero() -> None:
    zeros = [np.zeros((2, 3), np.float32)]
    assert compare(zeros, zeros, EXACT).agrees
    assert not compare([np.ones((2, 3), np.float32)], zeros, ANY).agrees


def test_a_sequence_without_positions_counts_for_nothing() -> None:
    empty = np.zeros((0, 2), np.float32)
    assert compare([empty, *EXPECTED], [empty, *EXPECTED], EXACT).num_positions == 3
    assert compare([empty, *changed(1, 0, 0, 9.0)], [empty, *EXPECTED], EXACT).first == Place(2, 0)


def test_records_are_rounded_to_the_unsafe_side() -> None:
    figures = Figures(cosine=1 - 2.34e-7, norm_error=4.0e-5, relative_error=1.01e-6)
    record = Comparison(figures, Figures(1.0, 0.0, 9.9e-7), 7, None).record()
    assert record == {
        "positions": 7,
        "min_cosine": 0.9999997,
        "max_norm_error": 4e-5,
        "max_relative_error": 2e-6,
        "overall_cosine": 1.0,
        "overall_norm_error": 0.0,
        "overall_relative_error": 1e-6,
    }


UNCHANGED = {"changed_tensors": 0, "cast_tensors": 0, "largest_absolute_error": None}
CAST = {**UNCHANGED, "cast_tensors": 3, "largest_absolute_error": {"value": 2**-9, "tensor": "a"}}
NEAR_ZERO = {**CAST, "largest_absolute_error": {"value": 2**-25, "tensor": "a"}}


@pytest.mark.parametrize(
    ("structure", "dtype", "expected"),
    [
        (UNCHANGED, "bfloat16", EXACT),
        ({**UNCHANGED, "cast_tensors": 3}, "float32", EXACT),
        ({**UNCHANGED, "cast_tensors": 3}, "float16", EXACT),  # all values are in float16 too
        (CAST, "bfloat16", ROUNDED["bfloat16"]),
        (CAST, "float16", ROUNDED["float16"]),
        (NEAR_ZERO, "float16", EXACT),
        ({**UNCHANGED, "changed_tensors": 1}, "bfloat16", ROUNDED["bfloat16"]),
        ({**UNCHANGED, "changed_tensors": 1}, "float32", EXACT),
    ],
)
def test_thresholds_follow_from_what_conversion_did(
    structure: dict[str, object], dtype: str, expected: Thresholds
) -> None:
    assert choose(Verify(logits=True), structure, dtype) == expected


def test_thresholds_of_the_recipe_go_first() -> None:
    settings = Verify(logits=True, min_cosine=0.9, max_relative_error=0.2)
    assert choose(settings, CAST, "float16") == Thresholds(0.9, 5e-3, 0.2)


@pytest.mark.parametrize("num_layers", [1, 2, 3, 7, 80])
def test_the_layer_that_departs_is_found(num_layers: int) -> None:
    for fault in range(num_layers):
        asked: list[int] = []

        def agrees(count: int, fault: int = fault, asked: list[int] = asked) -> bool:
            asked.append(count)
            return count <= fault

        assert first_departure(agrees, num_layers) == fault + 1
        assert len(asked) <= 2 * math.ceil(math.log2(num_layers + 1))
        assert num_layers not in asked  # known to differ
        assert len(set(asked)) == len(asked)


def test_random_sequences_are_of_unequal_lengths_and_the_same_each_time() -> None:
    made = random_sequences(113, 4, 32, seed=5)
    assert [len(one.token_ids) for one in made] == [32, 24, 16, 8]
    assert all(0 <= token < 113 for one in made for token in one.token_ids)
    assert made == random_sequences(113, 4, 32, seed=5)
    assert made != random_sequences(113, 4, 32, seed=6)
    assert [len(one.token_ids) for one in random_sequences(9, 3, 2, seed=0)] == [2, 1, 1]


def test_at_least_one_token_is_read_before_decoding() -> None:
    assert [num_decoded(count) for count in (1, 2, 5, 9)] == [0, 1, 4, 4]
