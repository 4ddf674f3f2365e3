"""What was wrong with the values of a cast: looks once more, to name the tensor and the value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.checkpoint.strict_json import listed
from pipeline.errors import PipelineError, RecipeError, VerificationError
from pipeline.weights.blocks import NotFinite, Reader
from pipeline.weights.casts import LARGEST, to_float32
from pipeline.weights.patches import matrix
from pipeline.wording import counted


def cast_error(
    faults: Sequence[NotFinite], sources: Mapping[str, int], block_bytes: int
) -> PipelineError:
    """The error for casts that met or made a value that is not finite.

    A source that holds NaN or infinity is the source's fault (VerificationError); values too large
    for the target dtype are the recipe's (RecipeError). Every tensor is read whole, so the same
    largest value is told whatever the layout.
    """
    unique = {fault.tensor.name: fault for fault in faults}
    broken, large = [], []
    for name in sorted(unique):
        tensor, dtype = unique[name].tensor, unique[name].dtype
        finite, largest = _look(tensor, Reader(sources), block_bytes)
        if not finite:
            broken.append(f"`{name}` holds values that are not finite")
        if largest > LARGEST[dtype] or finite:
            large.append(f"`{name}` has values up to {largest:.6g}; {dtype} ends at {_end(dtype)}")
    if broken:
        return VerificationError(
            "the source holds NaN or infinity", facts=listed([*broken, *large])
        )
    return RecipeError(
        f"{counted(len(large), 'tensor')} cannot be cast: "
        "their largest values would become infinite",
        facts=listed(large),
        hint="set `checkpoint.dtype: bfloat16` or `float32`, which hold values of this size, or "
        "`checkpoint.clamp: true` to put the largest finite value in their place",
    )


def _look(tensor: TensorInfo, reader: Reader, block_bytes: int) -> tuple[bool, float]:
    """Whether all values are finite, and the largest absolute value of those that are."""
    rows = max(1, matrix(tensor.shape)[0])
    step = max(1, block_bytes * rows // (4 * max(1, tensor.num_bytes)))
    finite, largest = True, 0.0
    for start in range(0, rows, step):
        values = reader.rows(tensor, start, min(start + step, rows))
        magnitude = np.abs(to_float32(values, tensor.dtype))
        sound = np.isfinite(magnitude)
        finite = finite and bool(sound.all())
        largest = max(largest, float(magnitude[sound].max(initial=0.0)))
    return finite, largest


def _end(dtype: str) -> str:
    return f"{LARGEST[dtype]:.6g}"
