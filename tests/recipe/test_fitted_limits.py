"""Defaults of the limits follow the model; what a recipe writes stays."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.recipe.fitted_limits import fit_limits
from pipeline.recipe.schema import EngineSettings, Recipe

ROTARY = "rope_gpt_neox"


def limits(
    engine: dict[str, Any], positions: int | None, window: int | None = None, kind: str = ROTARY
) -> tuple[int, int]:
    """`max_input_len` and `max_seq_len` of a recipe for a model."""
    document = {"name": "x", "source": {"repo": "a/b"}, "engine": engine}
    config = {"max_position_embeddings": positions, "position_embedding_type": kind}
    fitted = fit_limits(Recipe.model_validate(document), config, window).engine
    assert EngineSettings.model_validate(fitted.model_dump()) == fitted
    return fitted.max_input_len, fitted.max_seq_len


@pytest.mark.parametrize(
    ("engine", "positions", "window", "expected"),
    [
        ({}, 131072, None, (1024, 2048)),
        ({}, None, None, (1024, 2048)),
        ({}, 1024, None, (512, 1024)),
        ({}, 4096, 2047, (1023, 2047)),
        ({}, 2, None, (1, 2)),
        ({"max_input_len": 800}, 1024, None, (800, 1024)),
        ({"max_seq_len": 2048}, 1024, None, (1024, 2048)),
        ({"max_seq_len": 512}, 1024, None, (256, 512)),
        ({"max_input_len": 1500}, 1024, None, (1500, 2048)),
        ({}, 1, None, (1024, 2048)),
    ],
)
def test_a_default_is_no_longer_than_the_model(
    engine: dict[str, Any], positions: int | None, window: int | None, expected: tuple[int, int]
) -> None:
    assert limits(engine, positions, window) == expected


@pytest.mark.parametrize("kind", ["alibi", "alibi_with_scale", "relative"])
def test_positions_without_an_end_limit_nothing(kind: str) -> None:
    assert limits({}, 1024, kind=kind) == (1024, 2048)
    assert limits({}, 1024, 512, kind=kind) == (256, 512)


def test_the_rest_of_the_recipe_stays() -> None:
    document = {"name": "x", "source": {"repo": "a/b"}, "engine": {"max_batch_size": 3}}
    recipe = Recipe.model_validate(document)
    fitted = fit_limits(recipe, {"max_position_embeddings": 1024}, None)
    same = recipe.model_dump()
    same["engine"] |= {"max_input_len": 512, "max_seq_len": 1024}
    assert fitted.model_dump() == same


def test_the_default_prompt_leaves_room_in_a_short_sequence() -> None:
    assert EngineSettings(max_seq_len=1024).max_input_len == 512
    assert EngineSettings(max_seq_len=1025).max_input_len == 1024
    assert EngineSettings(max_seq_len=512, max_input_len=500).max_input_len == 500
    with pytest.raises(ValueError, match="prompt plus output, is 1"):
        EngineSettings(max_seq_len=1)
