"""Recipes of the suite for real hardware: what is built of the checkpoints, and how it is held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

PROMPTS = (
    "The capital of France is",
    "The sea is wide, the sea is deep, and",
    "all the rivers go down to the sea. " * 8,
)
"""Short ones, and one of over a hundred tokens."""

EQUAL_TOKENS = 4
"""Greedy tokens that must be those of the float32 graph. Random weights make near ties, which
float16 may decide otherwise; a wrong layer shows in the first token, and in the logits."""

LOGIT_ERROR = 0.25
"""Logits of these models are about 1 in size; rounding in float16 is a hundredth of that."""


def write_recipe(
    path: Path, name: str, source_dir: Path, target: str, *, compares: bool, **checkpoint: Any
) -> Path:
    """A recipe's default settings with small limits, and everything that checks the result."""
    smoke: dict[str, Any] = {
        "require_engine": True,
        "max_new_tokens": 16,
        "prompts": [{"text": text} for text in PROMPTS],
    }
    if compares:
        smoke["compare"] = {"min_equal_tokens": EQUAL_TOKENS, "max_logit_error": LOGIT_ERROR}
    recipe = {
        "name": f"first-run-{name}",
        "source": {"path": str(source_dir)},
        "checkpoint": {"dtype": "float16", **checkpoint},
        "engine": {
            "backend": "trtllm",
            "targets": [target],
            "max_batch_size": 4,
            "max_input_len": 256,
            "max_seq_len": 512,
            "gather_context_logits": compares,
        },
        "smoke": smoke,
        "package": {"formats": ["tar", "triton"]},
    }
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path
