"""Rectangles of target tensors, and the source values that fill them.

A tensor is seen as a matrix: its last dim are the columns, all others the rows; a vector has one
column. A target tensor is a list of patches that fill it exactly, none over another. They say all
that is known of the values: `blocks` computes them, `stream` copies the plain ones, `roundtrip`
compares them, `explain` prints them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.checkpoint.safetensors_file import ITEM_BYTES, TensorInfo
from pipeline.weights.rules import Change, Plus, Times, UnitRows


@dataclass(frozen=True, slots=True)
class Patch:
    """`num_rows` x `num_columns` values of a target from (row, column).

    Row i is from row `source_row + i*row_step` of the source; with `transposed`, from a column
    instead, and columns are from rows. Without a source the values are zeros (padding).
    """

    row: int
    num_rows: int
    column: int
    num_columns: int
    source: TensorInfo | None = None
    source_row: int = 0
    source_column: int = 0
    row_step: int = 1
    transposed: bool = False
    change: Change | None = None
    factor: float = 1.0

    @property
    def reads(self) -> tuple[TensorInfo, ...]:
        """The tensors that it reads."""
        return () if self.source is None else (self.source,)

    def moved(self, row: int) -> Patch:
        """The same, from another row of the target."""
        return replace(self, row=row)

    def cut(self, first: int, count: int) -> Patch:
        """`count` of its rows, from its row `first`."""
        row, column = self.source_row, self.source_column
        if self.transposed:
            column += first
        else:
            row += first * self.row_step
        return replace(
            self, row=self.row + first, num_rows=count, source_row=row, source_column=column
        )


@dataclass(frozen=True, slots=True)
class ProductPatch:
    """`transpose(keys) @ queries` of `inner` rows of two sources; values from (row, column).

    With `keys_transposed` or `queries_transposed` a source has `inner` columns instead, and its
    rows are from `keys_column`, or `queries_column`.
    """

    row: int
    num_rows: int
    column: int
    num_columns: int
    queries: TensorInfo
    queries_row: int
    keys: TensorInfo
    keys_row: int
    inner: int
    keys_column: int = 0
    queries_column: int = 0
    keys_transposed: bool = False
    queries_transposed: bool = False

    @property
    def reads(self) -> tuple[TensorInfo, ...]:
        """The tensors that it reads."""
        return (self.queries, self.keys)

    def moved(self, row: int) -> ProductPatch:
        """The same, from another row of the target."""
        return replace(self, row=row)

    def cut(self, first: int, count: int) -> ProductPatch:
        """`count` of its rows, from its row `first`."""
        return replace(
            self, row=self.row + first, num_rows=count, keys_column=self.keys_column + first
        )


AnyPatch = Patch | ProductPatch


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Consecutive bytes of a weight file, or (`file` None) zeros."""

    file: str | None
    offset: int
    num_bytes: int


def matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor seen as a matrix."""
    columns = shape[-1] if len(shape) > 1 else 1
    return math.prod(shape) // max(columns, 1), columns


def byte_ranges(
    patches: Sequence[AnyPatch], dtype: str, shape: tuple[int, ...]
) -> list[ByteRange] | None:
    """The bytes of a target as ranges in sequence; None where some must be computed."""
    columns = matrix(shape)[1]
    ranges: list[ByteRange] = []
    for patch in patches:
        if isinstance(patch, ProductPatch) or patch.num_columns != columns or patch.change:
            return None
        size = patch.num_rows * columns * ITEM_BYTES[dtype]
        source = patch.source
        if source is None:
            ranges.append(ByteRange(None, 0, size))
            continue
        is_rows = matrix(source.shape)[1] == columns and patch.row_step == 1
        if not is_rows or patch.transposed or source.dtype != dtype:
            return None
        offset = source.offset + patch.source_row * columns * ITEM_BYTES[dtype]
        ranges.append(ByteRange(source.file, offset, size))
    return ranges


def explain(patch: AnyPatch, dtype: str) -> str:
    """One line that says where the values are from, for people."""
    rows = f"[{patch.row}:{patch.row + patch.num_rows}, "
    box = f"{rows}{patch.column}:{patch.column + patch.num_columns}]"
    if isinstance(patch, ProductPatch):
        left, right = _factors(patch)
        return f"{box} = {left} @ {right}, as {dtype}"
    if patch.source is None:
        return f"{box} = zeros"
    count, width = patch.num_rows, patch.num_columns
    if patch.transposed:
        count, width = width, count
    told = _box(patch.source, patch.source_row, count, patch.source_column, width, patch.row_step)
    told = f"transpose({told})" if patch.transposed else told
    match patch.change:
        case Plus(value=value):
            told += f" + {value}"
        case Times():
            told += f" * {patch.factor}"
        case UnitRows():
            told = f"unit_rows({told})"
    cast = "" if patch.source.dtype == dtype else f", {patch.source.dtype} to {dtype}"
    return f"{box} = {told}{cast}"


def _factors(patch: ProductPatch) -> tuple[str, str]:
    """Both sides of a product as text."""
    keys = (patch.keys_row, patch.inner, patch.keys_column, patch.num_rows)
    queries = (patch.queries_row, patch.inner, patch.queries_column, patch.num_columns)
    left = (
        _box(patch.keys, *keys[2:], *keys[:2])
        if patch.keys_transposed
        else f"transpose({_box(patch.keys, *keys)})"
    )
    right = (
        f"transpose({_box(patch.queries, *queries[2:], *queries[:2])})"
        if patch.queries_transposed
        else _box(patch.queries, *queries)
    )
    return left, right


def _box(info: TensorInfo, row: int, count: int, column: int, width: int, step: int = 1) -> str:
    """`name`[rows, columns] and the bytes from the first value to the last."""
    item, columns = ITEM_BYTES[info.dtype], matrix(info.shape)[1]
    last = row + (count - 1) * step
    first_byte = info.offset + (row * columns + column) * item
    end = info.offset + (last * columns + column + width) * item
    rows = f"{row}:{last + 1}" + (f":{step}" if step > 1 else "")
    span = f"bytes {first_byte}:{end} of {info.file}"
    return f"`{info.name}`[{rows}, {column}:{column + width}] ({span})"
