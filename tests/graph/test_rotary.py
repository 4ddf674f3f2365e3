"""Rotary tables against the formulas in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.errors import RecipeError
from pipeline.graph.config import read_config
from pipeline.graph.rotary import rotary_tables
from tests.tiny_decoder import Shape, frequency

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


@pytest.mark.parametrize("scaling", [None, LLAMA3, YARN, {"type": "linear", "factor": 8.0}])
def test_tables_hold_every_position(scaling: dict[str, Any] | None) -> None:
    shape = Shape(head_size=64, rotary_base=500000.0, rotary_scaling=scaling)
    cos, sin = rotary_tables(read_config(shape.config()), 2048)
    assert cos.shape == sin.shape == (2048, 32)
    assert cos.dtype == sin.dtype == np.float32
    for i in range(32):
        angle, factor = frequency(shape, i)
        for position in (0, 1, 100, 2047):
            # fp32 angles, as transformers has them: their rounding grows with the position
            slack = 3e-7 * (1 + position * angle)
            assert cos[position, i] == pytest.approx(factor * math.cos(position * angle), abs=slack)
            assert sin[position, i] == pytest.approx(factor * math.sin(position * angle), abs=slack)


def test_yarn_length_may_give_the_factor() -> None:
    given = {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 24}
    told = {**given, "factor": 4.0}
    shape = Shape(max_position_embeddings=96)
    tables = [
        rotary_tables(read_config(replace(shape, rotary_scaling=scaling).config()), 8)
        for scaling in (given, told)
    ]
    assert np.array_equal(tables[0], tables[1])


def test_yarn_mscale_pair_replaces_the_magnitude() -> None:
    scaling = {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}
    cos, _ = rotary_tables(read_config(Shape(rotary_scaling=scaling).config()), 2)
    assert cos[0, 0] == 1.0  # the two magnitudes cancel


def test_an_incomplete_scaling_is_an_error() -> None:
    config = read_config(Shape(rotary_scaling={"rope_type": "linear"}).config())
    with pytest.raises(RecipeError, match="`rotary_scaling` has no `factor`"):
        rotary_tables(config, 8)
