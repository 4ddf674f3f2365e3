"""What a recipe asks for, as a lock says it; and the lock's answer, as a plan takes it."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.artifact import Json
from pipeline.lock.document import LockedSource
from pipeline.recipe.load import LoadedRecipe
from pipeline.sources.pin import Pin

HOW_NOT_WHAT = frozenset({"endpoint"})
"""Keys of `source` that say by which way it is had: all that comes is compared, by any way."""


def asked_of(loaded: LoadedRecipe) -> dict[str, Json]:
    """The recipe's `source` without defaults; a relative folder counts from the recipe's own.

    That folder is the lock's, too. A path of a parent recipe, or of `--set`, counts from elsewhere.
    """
    asked = loaded.recipe.source.model_dump(mode="json", exclude_defaults=True)
    asked = {key: value for key, value in asked.items() if key not in HOW_NOT_WHAT}
    path, folder = asked.get("path"), loaded.path.parent
    if path is None or Path(path).expanduser().is_absolute():
        return asked
    if os.path.realpath(loaded.base_dir) == os.path.realpath(folder):
        return asked
    return {**asked, "path": Path(os.path.relpath(loaded.base_dir / path, folder)).as_posix()}


def pin_of(source: LockedSource, origin: str, *, is_frozen: bool) -> Pin:
    """What a plan is held to; `origin` is the name of the lock file."""
    files = tuple(file.source_file() for file in source.files)
    return Pin(origin, source.kind, source.commit, files, is_frozen)
