"""A Triton model repository, written into a release folder and held against the engine there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import VerificationError
from pipeline.release.digests import list_extents
from pipeline.release.triton import ENGINE_CONFIG, repository_files
from pipeline.release.triton_check import check_repository

if TYPE_CHECKING:
    from pipeline.recipe.schema import Serving


def write_repository(folder: Path, serving: Serving) -> None:
    """Write `triton/` beside `engine/`, and hold it against the engine as `verify` does.

    Raises VerificationError with every fault.
    """
    config = json.loads((folder / ENGINE_CONFIG).read_bytes())
    for name, data in repository_files(config, serving).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    names = frozenset(list_extents(folder))
    faults = check_repository(config, serving, names, lambda name: (folder / name).read_bytes())
    if faults:
        raise VerificationError(
            "the engine cannot be served by Triton as the recipe asks",
            facts=faults,
            hint="correct `engine` or `package.serving`, or leave `triton` out of "
            "`package.formats`",
        )
