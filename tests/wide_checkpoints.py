"""Checkpoints of every architecture with heads wide enough for fused kernels, of random weights.

The stored checkpoints have heads of 4 and 8 dims, for which no GPU has a fused kernel. Here their
converted config.json files have larger sizes, and the rank file is what the inventory asks for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from pipeline.checkpoint.trtllm import TrtllmCheckpoint, open_trtllm_checkpoint
from pipeline.families import expected_inventory, find_family
from pipeline.weights.layout import plan_conversion
from pipeline.weights.parallel import Parallelism
from tests.families.fixtures import open_fixture
from tests.tiny import write_weights

FACTOR = 8
_SIZES = (
    *("hidden_size", "head_size", "rotary_embedding_dim", "rotary_dim", "kv_lora_rank"),
    *("q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"),
)
_FACTORS = ("longrope_scaling_short_factors", "longrope_scaling_long_factors")


def wide_config(name: str, dtype: str) -> dict[str, Any]:
    """The target config.json of a stored checkpoint, its heads `FACTOR` times as wide."""
    source = open_fixture(name)
    made = plan_conversion(source, find_family(source.architecture), Parallelism(), dtype)
    config: dict[str, Any] = json.loads(json.dumps(dict(made.config)))
    for key in _SIZES:
        if isinstance(config.get(key), int):
            config[key] *= FACTOR
    for key in _FACTORS:
        if key in config:
            config[key] = [value for value in config[key] for _ in range(FACTOR)]
    return config


def write_wide(folder: Path, name: str, dtype: str = "bfloat16") -> TrtllmCheckpoint:
    """Write config.json and `rank0.safetensors`."""
    config = wide_config(name, dtype)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(7)
    arrays = {
        tensor: _drawn(rng, tensor, shape, stored)
        for tensor, (stored, shape) in expected_inventory(config, 0).items()
    }
    write_weights(folder / "rank0.safetensors", arrays)
    return open_trtllm_checkpoint(folder)


def _drawn(
    rng: np.random.Generator, name: str, shape: tuple[int, ...], dtype: str
) -> np.ndarray[Any, Any]:
    is_norm = "norm" in name and name.endswith("weight")
    about, scale = (1.0, 0.2) if is_norm else (0.0, shape[-1] ** -0.5)
    values = about + scale * rng.standard_normal(shape)
    return values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
