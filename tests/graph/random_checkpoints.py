"""Checkpoints of random weights, for configs that no stored model has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from pipeline.checkpoint.trtllm import TrtllmCheckpoint, open_trtllm_checkpoint, rank_file
from pipeline.families import expected_inventory
from pipeline.weights.parallel import parallelism_of


def random_checkpoint(config: Mapping[str, Any], folder: Path) -> TrtllmCheckpoint:
    """All that the config asks for, in float32; tensors of several ranks do not fit together."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(5)
    for rank in range(parallelism_of(config).num_files):
        shapes = {name: shape for name, (_, shape) in expected_inventory(config, rank).items()}
        save_file(
            {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()},
            folder / rank_file(rank),
        )
    return open_trtllm_checkpoint(folder)
