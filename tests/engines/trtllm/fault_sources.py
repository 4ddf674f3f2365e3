"""Source checkpoints for faults: those of `tests/fixtures`, with heads as wide as real ones.

Only their headers are ever read: the weight file is a hole of the right length.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pipeline.checkpoint.safetensors_file import ITEM_BYTES, encode_header
from tests.families.fixtures import FIXTURES, open_fixture

WIDTHS = (
    "d_model",
    "ff_intermediate_size",
    "head_dim",
    "hidden_size",
    "intermediate_size",
    "n_embd",
    "rotary_dim",
)
"""Keys of a source's config.json that grow with the heads."""

HEAD_SIZES = {"granite": 4, "mixtral": 4, "mpt": 4}
"""Of fixtures where it is not 8."""


def write_source(folder: Path, fixture: str, head_size: int, **changes: Any) -> None:
    """A fixture with its widths multiplied, as one weight file; `changes` to its config.json."""
    config = json.loads((FIXTURES / fixture / "config.json").read_text())
    tensors = open_fixture(fixture).tensors
    factor = head_size // HEAD_SIZES.get(fixture, 8)
    for key in WIDTHS:
        if config.get(key) is not None:
            config[key] *= factor
    kept = {config["vocab_size"], config.get("num_local_experts")}
    entries = [
        (name, tensor.dtype, tuple(dim if dim in kept else dim * factor for dim in tensor.shape))
        for name, tensor in tensors.items()
    ]
    header = encode_header(entries)
    num_bytes = sum(math.prod(shape) * ITEM_BYTES[dtype] for _, dtype, shape in entries)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + num_bytes)
