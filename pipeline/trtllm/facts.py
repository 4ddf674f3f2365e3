"""The JSON of facts: what was read in TensorRT-LLM's sources, and in which state of them."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from pipeline.artifact import Json

LINE = "1.2"
FIRST_RELEASE, END_OF_LINE = (1, 2, 1), (1, 3)
"""TensorRT-LLM 1.2.1 is the last stable release with the engine workflow; 1.3 removed it."""


@cache
def facts() -> dict[str, Json]:
    """All of `facts.json`. Treat it as frozen: every caller gets the same object."""
    document: dict[str, Json] = json.loads(
        files("pipeline.trtllm").joinpath("facts.json").read_bytes()
    )
    return document
