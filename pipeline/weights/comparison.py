"""Compares patches of rank files with the source, block by block. Needs numpy; lazily imported."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.checkpoint.safetensors_file import ITEM_BYTES, TensorInfo
from pipeline.weights.blocks import (
    Reader,
    Wanted,
    cost_bytes,
    evaluate_patch,
    read_patch,
    reads_columns,
)
from pipeline.weights.casts import Array, to_float32
from pipeline.weights.patches import AnyPatch, Patch

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


def compare_patch(
    patch: AnyPatch,
    target: TensorInfo,
    readers: tuple[Reader, Reader],
    wanted: Wanted,
    block_bytes: int,
) -> Tally:
    """Compare one patch of a target tensor with its source, or with zeros.

    `readers`: of the rank files and of the source.
    """
    targets, sources = readers
    tally = Tally()
    cost = 2 * cost_bytes([patch], target.dtype) + 8 * patch.num_columns * ITEM_BYTES[target.dtype]
    step = max(1, (8 if reads_columns([patch]) else 1) * block_bytes // max(1, cost))
    for start in range(0, patch.num_rows, step):
        part = patch.cut(start, min(step, patch.num_rows - start))
        rows = targets.rows(target, part.row, part.row + part.num_rows)
        found = rows[:, part.column : part.column + part.num_columns]
        tally.num_bytes += found.nbytes
        made = evaluate_patch(part, wanted, sources) if part.reads else None
        expected = np.zeros_like(found) if made is None else made
        if not np.array_equal(found, expected):
            differs = (found != expected).any(axis=1)
            tally.faults.append(_fault(part, target, part.row + int(differs.argmax())))
            return tally
        if isinstance(part, Patch) and part.source is not None and _is_lossy(part, target):
            _measure(found, read_patch(part, sources), part.source, target, tally)
    return tally


def _is_lossy(patch: Patch, target: TensorInfo) -> bool:
    assert patch.source is not None
    return patch.change is None and patch.source.dtype != target.dtype


def _measure(
    found: Array,
    wanted: Array,
    source: TensorInfo,
    target: TensorInfo,
    tally: Tally,
) -> None:
    """Add the largest errors of a cast. Exact in float32: values are neighbours, or one is zero."""
    exact = to_float32(wanted, source.dtype)
    error = to_float32(np.ascontiguousarray(found), target.dtype) - exact
    np.abs(error, out=error)
    largest = float(error.max(initial=0.0))
    if not largest:
        return
    # Zero is cast without error: any divisor will do there.
    error /= np.maximum(np.abs(exact), np.float32(_SMALLEST))
    relative = float(error.max())
    tally.add(Tally(0, Error(largest, source.name), Error(relative, source.name)))


def _fault(patch: AnyPatch, target: TensorInfo, row: int) -> str:
    where = f"row {row} of `{target.name}` in `{target.file}`"
    if not patch.reads:
        return f"{where} is padding, but not zero"
    return f"{where} is not what `{patch.reads[0].name}` holds"
