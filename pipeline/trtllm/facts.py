"""The JSON of facts: what was read in TensorRT-LLM's sources, and in which state of them."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files

from pipeline.artifact import Json

LINE = "1.2"
FIRST_RELEASE, END_OF_LINE = (1, 2, 1), (1, 3)
"""TensorRT-LLM 1.2.1 is the last stable release with the engine workflow; 1.3 removed it."""


def release_of(version: str) -> tuple[int, ...]:
    """The numbers of a version, at most three: (1, 2, 1) of `1.2.1.post1`."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


@cache
def facts() -> dict[str, Json]:
    """All of `facts.json`. Treat it as frozen: every caller gets the same object."""
    document: dict[str, Json] = json.loads(
        files("pipeline.trtllm").joinpath("facts.json").read_bytes()
    )
    return document
