"""The models of the fixtures, larger: other sizes in every place, and room for 128 positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.parity.fixture_sizes import Model

POSITIONS = 128

SIZES: Mapping[str, Mapping[int, int]] = {
    "vocab_size": {113: 149, 114: 150},
    "hidden_size": {24: 48, 32: 64},
    "n_embd": {24: 48, 32: 64},
    "d_model": {24: 48},
    "head_dim": {8: 16},
    "intermediate_size": {40: 72, 20: 28, 56: 88, 128: 256},
    "moe_intermediate_size": {12: 20, 16: 24},
    "shared_expert_intermediate_size": {28: 44},
    "ffn_hidden_size": {20: 36},
    "ffn_dim": {60: 84},
    "n_inner": {56: 92},
    "word_embed_proj_dim": {24: 48, 20: 40},
    "rotary_dim": {4: 8},
    "q_lora_rank": {22: 38},
    "kv_lora_rank": {14: 26},
    "qk_nope_head_dim": {8: 12},
    "qk_rope_head_dim": {4: 8},
    "v_head_dim": {8: 12},
    "max_position_embeddings": {32: POSITIONS},
    "n_positions": {32: POSITIONS},
    "num_local_experts": {4: 5},
    "moe_num_experts": {4: 5},
    "num_experts": {4: 5},
}
"""By key of a config: the fixture's size, and the larger one. Other values stay what they are."""

FACTORS = {
    2: ([1.05, 1.2, 1.7, 2.3], [1.2, 3.0, 17.0, 41.0]),
    3: ([1.0, 1.1, 1.2, 1.4, 1.9, 2.2], [1.0, 2.5, 7.5, 12.0, 33.0, 50.0]),
}
"""Short and long factors of longrope, by how many the fixture has: one for each rotated pair."""


def larger(model: Model) -> Model:
    """The same model with larger sizes."""
    config = _larger(model.config)
    rope = config.get("rope_parameters")
    if rope and "short_factor" in rope:
        short, long = FACTORS[len(rope["short_factor"])]
        config["rope_parameters"] = rope | {"short_factor": short, "long_factor": long}
    return model._replace(config=config)


def _larger(config: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and key != "rope_parameters":
            made[key] = _larger(value)
        else:
            made[key] = SIZES[key].get(value, value) if key in SIZES else value
    return made
