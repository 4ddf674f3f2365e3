"""Compares pieces of rank files with the source, block by block. Needs numpy; imported lazily."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.weights.blocks import Reader
from pipeline.weights.casts import Array, from_float32, to_float32
from pipeline.weights.placement import Piece


@dataclass(frozen=True, slots=True)
class Error:
    """A largest error and the source tensor that has it."""

    value: float = 0.0
    tensor: str = ""


@dataclass(slots=True)
class Tally:
    """What a comparison found: bytes of rank files that were compared, errors of casts, faults."""

    num_bytes: int = 0
    absolute: Error = field(default_factory=Error)
    relative: Error = field(default_factory=Error)
    faults: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in what another comparison found; of equal errors the first stays."""
        self.num_bytes += other.num_bytes
        self.absolute = max(self.absolute, other.absolute, key=lambda error: error.value)
        self.relative = max(self.relative, other.relative, key=lambda error: error.value)
        self.faults += other.faults


def compare_piece(
    piece: Piece, target: TensorInfo, targets: Reader, sources: Reader, block_bytes: int
) -> Tally:
    """Compare one piece of a target tensor with its source, or with zeros."""
    tally = Tally()
    is_rows = piece.dim == 0
    num_rows = piece.count if is_rows else target.shape[0]
    step = _rows_per_block(piece, target, block_bytes)
    for start in range(0, num_rows, step):
        stop = min(start + step, num_rows)
        first = start + (piece.target_start if is_rows else 0)
        found = targets.rows(target, first, first + stop - start)
        found = found if is_rows else _cut(found, piece.dim, piece.target_start, piece.count)
        tally.num_bytes += found.nbytes
        if piece.source is None:
            difference = _first_difference(_bits(found), np.zeros_like(_bits(found)))
        else:
            first = start + (piece.source_start if is_rows else 0)
            wanted = sources.rows(piece.source, first, first + stop - start)
            wanted = wanted if is_rows else _cut(wanted, piece.dim, piece.source_start, piece.count)
            difference = _compare_block(found, wanted, piece.source, target, tally)
        if difference is not None:
            row = start + difference + (piece.target_start if is_rows else 0)
            tally.faults.append(_fault(piece, target, row))
            return tally
    return tally


def _rows_per_block(piece: Piece, target: TensorInfo, block_bytes: int) -> int:
    """Rows such that both sides, their float32 values and the error fit the block."""
    tensors = [target] if piece.source is None else [target, piece.source]
    row_bytes = sum(info.num_bytes // max(info.shape[0], 1) for info in tensors)
    return max(1, block_bytes // max(1, 8 * row_bytes))


def _compare_block(
    found: Array, wanted: Array, source: TensorInfo, target: TensorInfo, tally: Tally
) -> int | None:
    """The first row that differs; the errors of a cast go to the tally."""
    if source.dtype == target.dtype:
        return _first_difference(_bits(found), _bits(wanted))
    exact = to_float32(wanted, source.dtype)
    expected = from_float32(exact, target.dtype)
    difference = _first_difference(_bits(found), _bits(expected))
    if difference is None:
        # Exact in float32: the two are neighbours, or the cast is zero.
        error = np.abs(to_float32(found, target.dtype) - exact)
        magnitude = np.abs(exact)
        relative = np.divide(error, magnitude, out=np.zeros_like(error), where=magnitude > 0)
        largest = Tally(0, _largest(error, source), _largest(relative, source))
        tally.add(largest)
    return difference


def _largest(errors: NDArray[np.float32], source: TensorInfo) -> Error:
    value = float(errors.max(initial=0.0))
    return Error(value, source.name) if value else Error()


def _bits(values: Array) -> Array:
    """Floats as integers of their bits: NaN equals itself, -0 is not 0."""
    return values.view(np.dtype(f"u{values.itemsize}"))


def _first_difference(one: Array, other: Array) -> int | None:
    """The first row in which two arrays differ."""
    if np.array_equal(one, other):
        return None
    differs = (one != other).reshape(one.shape[0], -1).any(axis=1)
    return int(differs.argmax())


def _cut(values: Array, dim: int, start: int, count: int) -> Array:
    """`count` steps of a dim from `start`."""
    box: list[slice] = [slice(None)] * values.ndim
    box[dim] = slice(start, start + count)
    return values[tuple(box)]


def _fault(piece: Piece, target: TensorInfo, row: int) -> str:
    where = f"row {row} of `{target.name}` in `{target.file}`"
    if piece.source is None:
        return f"{where} is padding, but not zero"
    return f"{where} is not what `{piece.source.name}` holds"
