"""Limits that a recipe leaves to their defaults, held to what its model reaches."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.recipe.schema import Recipe

_UNBOUNDED = ("alibi", "alibi_with_scale", "relative")
"""Position types that have no last position."""


def fit_limits(recipe: Recipe, config: Mapping[str, Json], *longest: int | None) -> Recipe:
    """The recipe with no default of `engine.max_seq_len` or `max_input_len` beyond the model.

    `config` is the checkpoint's (TensorRT-LLM's config.json), `longest` are other lengths up to
    which the engine is right, None for any: its attention window, say. What the recipe writes stays
    as it is, also where it is too long: that is for the rules to refuse. The default of
    `max_input_len` is at most half the sequence.
    """
    engine = recipe.engine
    if "max_seq_len" in engine.model_fields_set:
        return recipe
    lengths = (engine.max_seq_len, _positions(config), *longest)
    reach = min(length for length in lengths if length is not None)
    is_given = "max_input_len" in engine.model_fields_set
    input_len = engine.max_input_len if is_given else min(engine.max_input_len, reach // 2)
    if reach == engine.max_seq_len or not 0 < input_len < reach:
        return recipe
    limits = {"max_seq_len": reach, "max_input_len": input_len}
    return recipe.model_copy(update={"engine": engine.model_copy(update=limits)})


def _positions(config: Mapping[str, Json]) -> int | None:
    """The positions that the model is made for; a rope scaling, which adds some, is left out."""
    if config.get("position_embedding_type") in _UNBOUNDED:
        return None
    positions: int | None = config.get("max_position_embeddings")
    return positions
