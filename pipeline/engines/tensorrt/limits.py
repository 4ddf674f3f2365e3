"""What the record of a TensorRT engine says to whoever runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifact import Json
from pipeline.engines.engine import CONFIG_NAME
from pipeline.errors import VerificationError


@dataclass(frozen=True, slots=True)
class Limits:
    """What the engine's profiles accept, and how it was built."""

    max_batch_size: int
    max_seq_len: int
    context_tokens: int
    strip_weights: bool = False
    version_compatible: bool = False
    weight_files: tuple[str, ...] = ()
    checkpoint: Mapping[str, Json] = field(default_factory=dict)
    """config.json of the checkpoint that it was built from."""


def read_limits(engine_dir: Path) -> Limits:
    """From the engine's record. Raises VerificationError where the folder is no such engine."""
    try:
        config = json.loads((engine_dir / CONFIG_NAME).read_bytes())
        if config["backend"] != "tensorrt":
            raise ValueError(f"it is of the backend `{config['backend']}`")
        return Limits(
            config["max_batch_size"],
            config["max_seq_len"],
            config["profiles"]["context_tokens"],
            config["strip_weights"],
            config["version_compatible"],
            tuple(config["weight_files"]),
            config["checkpoint"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerificationError(f"`{engine_dir}` is not a `tensorrt` engine: {error}") from None
