"""Engine backends, one module each: a recipe names its backend, nothing is guessed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from pipeline.errors import RecipeError

if TYPE_CHECKING:
    # Only for the annotation: `engine` reaches numpy-typed modules that `--help` need not read.
    from pipeline.engines.engine import Engine

BACKENDS = ("trtllm", "tensorrt", "onnxruntime")


def find_engine(name: str) -> Engine:
    """The backend of that name; only its module is imported. Raises RecipeError if unknown."""
    if name not in BACKENDS:
        known = ", ".join(f"`{backend}`" for backend in BACKENDS)
        raise RecipeError(
            f"`engine.backend` is `{name}`, which is not a backend", hint=f"use one of {known}"
        )
    return cast("Engine", import_module(f"pipeline.engines.{name}").ENGINE)
