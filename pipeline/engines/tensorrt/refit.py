"""Putting the checkpoint's weights into an engine that was built without them.

The graph beside the engine says which bytes of which rank file each weight is; TensorRT's own
refitter reads it. Needs a GPU, like all that deserializes an engine: never executed by us.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.engines.tensorrt.job import GRAPH_NAME
from pipeline.errors import ToolFailed, VerificationError


def refit(
    trt: Any, engine: Any, log: Any, engine_dir: Path, weight_files: Sequence[str], weights: Path
) -> None:
    """Fill an engine from the rank files in `weights`.

    Raises VerificationError where one is missing, ToolFailed where TensorRT refuses them.
    """
    missing = [name for name in weight_files if not (weights / name).is_file()]
    if missing:
        raise VerificationError(
            f"the engine in `{engine_dir}` was built without weights, and `{weights}` lacks them",
            facts=[f"`{name}` is missing" for name in missing],
        )
    with tempfile.TemporaryDirectory() as folder:
        # External data is looked for beside the graph.
        for path in (engine_dir / GRAPH_NAME, *(weights / name for name in weight_files)):
            (Path(folder) / path.name).symlink_to(path.resolve())
        refitter = trt.Refitter(engine, log)
        parser = trt.OnnxParserRefitter(refitter, log)
        read = parser.refit_from_file(str(Path(folder) / GRAPH_NAME))
        done = read and refitter.refit_cuda_engine()
    if not done:
        errors = [parser.get_error(number).desc() for number in range(parser.num_errors)]
        left = [f"weight `{name}` is missing" for name in refitter.get_missing_weights()]
        raise ToolFailed("TensorRT cannot put the weights into the engine", facts=errors + left)
