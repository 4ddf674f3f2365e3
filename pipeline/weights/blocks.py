"""Values of patches, in blocks of rows, as bits. Needs numpy; imported lazily.

Any rows of a target can be computed alone, which is why memory stays flat: nothing is ever held but
one block and what it is made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.checkpoint.safetensors_file import ITEM_BYTES, TensorInfo
from pipeline.errors import PipelineError
from pipeline.weights.casts import LARGEST, Array, as_bits, cast, is_finite, to_float32
from pipeline.weights.files import read_into, translated
from pipeline.weights.patches import AnyPatch, Patch, ProductPatch, matrix
from pipeline.weights.products import product
from pipeline.weights.rules import Plus, Times, UnitRows

_STRIP_BYTES = 1 << 20


class NotFinite(PipelineError):
    """A cast met or made a value that is not finite. `cast_faults` says what to look at."""

    def __init__(self, tensor: TensorInfo, dtype: str) -> None:
        super().__init__(f"`{tensor.name}` as {dtype} is not finite")
        self.tensor = tensor
        self.dtype = dtype


@dataclass(frozen=True, slots=True)
class Wanted:
    """The dtype of the values; with `clamp`, what a cast makes infinite becomes the largest."""

    dtype: str
    clamp: bool = False


class Reader:
    """Reads rows of tensors; keeps the last block, which the tp ranks ask for in turn."""

    def __init__(self, descriptors: Mapping[str, int]) -> None:
        self._descriptors = descriptors
        self._last: tuple[TensorInfo, int, int] | None = None
        self._block: Array = np.empty(0, np.uint8)

    def rows(self, tensor: TensorInfo, start: int, stop: int) -> Array:
        """Rows `start:stop` of a tensor seen as a matrix, as bits, shared: do not write to them."""
        if self._last != (tensor, start, stop):
            self._last = None
            self._block = self._read(tensor, start, stop)
            self._last = (tensor, start, stop)
        return self._block

    def columns(self, tensor: TensorInfo, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
        """A box of a tensor, read in strips of whole rows, of which only the columns are kept."""
        width = matrix(tensor.shape)[1]
        box = np.empty((rows[1] - rows[0], columns[1] - columns[0]), _unsigned(tensor.dtype))
        step = max(1, _STRIP_BYTES // (width * ITEM_BYTES[tensor.dtype]))
        for start in range(*rows, step):
            stop = min(start + step, rows[1])
            strip = self._read(tensor, start, stop)
            box[start - rows[0] : stop - rows[0]] = strip[:, columns[0] : columns[1]]
        return box

    def _read(self, tensor: TensorInfo, start: int, stop: int) -> Array:
        width = matrix(tensor.shape)[1]
        row_bytes = ITEM_BYTES[tensor.dtype] * width
        block = np.empty((stop - start, width), _unsigned(tensor.dtype))
        with translated(tensor.file):
            read_into(
                self._descriptors[tensor.file],
                memoryview(block.reshape(-1).view(np.uint8)),  # type: ignore[arg-type]
                tensor.offset + start * row_bytes,
                tensor.file,
            )
        return block


def evaluate(
    patches: Sequence[AnyPatch], wanted: Wanted, start: int, stop: int, reader: Reader
) -> Array:
    """Rows `start:stop` of a target as bits. Raises NotFinite for a bad cast."""
    columns = max(patch.column + patch.num_columns for patch in patches)
    block = np.zeros((stop - start, columns), _unsigned(wanted.dtype))
    for patch in patches:
        first, last = max(patch.row, start), min(patch.row + patch.num_rows, stop)
        if first < last and patch.reads:
            values = evaluate_patch(patch.cut(first - patch.row, last - first), wanted, reader)
            right = patch.column + patch.num_columns
            block[first - start : last - start, patch.column : right] = values
    return block


def evaluate_patch(patch: AnyPatch, wanted: Wanted, reader: Reader) -> Array:
    """All values of one patch as bits. Raises NotFinite for a bad cast."""
    if isinstance(patch, ProductPatch):
        return product(_rows_of(patch, reader), patch.queries.dtype, wanted.dtype)
    assert patch.source is not None
    bits = read_patch(patch, reader)
    if patch.change is None and patch.source.dtype == wanted.dtype:
        return bits
    if patch.change is None:
        made = cast(bits, patch.source.dtype, wanted.dtype)
    else:
        made = _changed(patch, to_float32(bits, patch.source.dtype), wanted.dtype)
    if is_finite(made, wanted.dtype):
        return made
    if wanted.clamp and is_finite(bits, patch.source.dtype):
        return _clamped(made, wanted.dtype)
    raise NotFinite(patch.source, wanted.dtype)


def read_patch(patch: Patch, reader: Reader) -> Array:
    """The source's bits where the patch takes them, in the order of the target."""
    assert patch.source is not None
    row, column = patch.source_row, patch.source_column
    if patch.transposed:
        rows, columns = (row, row + patch.num_columns), (column, column + patch.num_rows)
        return reader.columns(patch.source, rows, columns).T
    last = row + (patch.num_rows - 1) * patch.row_step + 1
    read = reader.rows(patch.source, row, last)
    return read[:: patch.row_step, column : column + patch.num_columns]


def cost_bytes(patches: Sequence[AnyPatch], dtype: str) -> int:
    """Memory that one row of a target takes while it is made: source, result, test for infinity."""
    cost = 0
    for patch in patches:
        if isinstance(patch, ProductPatch):
            # float64 values of a row: sum, bound, and their roundings.
            cost = max(cost, 8 * 8 * patch.num_columns)
        elif patch.source is not None:
            read = patch.num_columns if patch.transposed else matrix(patch.source.shape)[1]
            read *= ITEM_BYTES[patch.source.dtype] * patch.row_step
            changed = 3 * 8 * patch.num_columns if patch.change else 0
            cost = max(cost, read + 3 * patch.num_columns * ITEM_BYTES[dtype] + changed)
    return cost


def reads_columns(patches: Sequence[AnyPatch]) -> bool:
    """Whether every block of rows reads its sources whole: the fewer blocks, the better."""
    return any(isinstance(patch, ProductPatch) or patch.transposed for patch in patches)


def _rows_of(patch: ProductPatch, reader: Reader) -> tuple[Array, Array]:
    """Rows of keys and queries, the columns that the patch is of."""
    inner, columns = (patch.queries_row, patch.inner), (patch.queries_column, patch.num_columns)
    queries = _box(reader, patch.queries, inner, columns, patch.queries_transposed).copy()
    inner, columns = (patch.keys_row, patch.inner), (patch.keys_column, patch.num_rows)
    return _box(reader, patch.keys, inner, columns, patch.keys_transposed), queries


def _box(
    reader: Reader,
    tensor: TensorInfo,
    rows: tuple[int, int],
    columns: tuple[int, int],
    is_turned: bool,
) -> Array:
    """(first, count) of rows and of columns, of a tensor or of its transpose."""
    if is_turned:
        rows, columns = columns, rows
    box = reader.rows(tensor, rows[0], rows[0] + rows[1])[:, columns[0] : columns[0] + columns[1]]
    return box.T if is_turned else box


def _changed(patch: Patch, values: Array, dtype: str) -> Array:
    """Changed float32 values, rounded once to the target's dtype."""
    match patch.change:
        case Plus(value=value):
            values = values + np.float32(value)
        case Times():
            values = values * np.float32(patch.factor)
        case UnitRows():
            values = values.astype(np.float64)
            # Column by column: a sum in one order, whatever the processor and the block.
            squares = np.zeros(len(values))
            for column in values.T:
                squares += column * column
            values = values / np.maximum(np.sqrt(squares), 1e-12)[:, None]
            values = values.astype(np.float32)
    return cast(as_bits(values), "float32", dtype)


def _clamped(bits: Array, dtype: str) -> Array:
    """Infinite values become the largest finite ones."""
    values = to_float32(bits, dtype)
    largest = np.float32(LARGEST[dtype])
    return cast(as_bits(np.clip(values, -largest, largest)), "float32", dtype)


def _unsigned(dtype: str) -> np.dtype[np.unsignedinteger]:
    return np.dtype(f"u{ITEM_BYTES[dtype]}")
