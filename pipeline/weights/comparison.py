"""Compares pieces of rank files with the source, block by block. Needs numpy; imported lazily."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.weights.blocks import Reader
from pipeline.weights.casts import Array, cast, to_float32
from pipeline.weights.placement import Piece

_SMALLEST = 2.0**-149
"""The smallest float32 above zero."""


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
            difference = _first_difference(found, np.zeros_like(found))
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
        return _first_difference(found, wanted)
    difference = _first_difference(found, cast(wanted, source.dtype, target.dtype))
    if difference is None:
        _measure(found, wanted, source, target, tally)
    return difference


def _measure(
    found: Array, wanted: Array, source: TensorInfo, target: TensorInfo, tally: Tally
) -> None:
    """Add the largest errors of a cast. Exact in float32: values are neighbours, or one is zero."""
    exact = to_float32(wanted, source.dtype)
    error = to_float32(found, target.dtype) - exact
    np.abs(error, out=error)
    largest = float(error.max(initial=0.0))
    if not largest:
        return
    # Zero is cast without error: any divisor will do there.
    error /= np.maximum(np.abs(exact), np.float32(_SMALLEST))
    relative = float(error.max())
    tally.add(Tally(0, Error(largest, source.name), Error(relative, source.name)))


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
