"""Values of expressions, in blocks of rows, as bits. Needs numpy; imported lazily.

A row is what one step in dim 0 holds. Every expression can be evaluated for any rows alone, which
is why memory stays flat: nothing is ever held but one block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from pipeline.checkpoint.safetensors_file import ITEM_BYTES, TensorInfo
from pipeline.errors import PipelineError
from pipeline.weights.casts import Array, cast, is_finite
from pipeline.weights.expressions import Cast, Expression, Join, Slice, Zeros, leaves
from pipeline.weights.files import read_into, translated


class NotFinite(PipelineError):
    """A cast met or made a value that is not finite. `cast` says which tensor to look at."""

    def __init__(self, cast: Cast) -> None:
        super().__init__(f"`{cast.part.tensor.name}` as {cast.dtype} is not finite")
        self.cast = cast


class Reader:
    """Reads rows of source tensors; keeps the last block, which the tp ranks ask for in turn."""

    def __init__(self, descriptors: Mapping[str, int]) -> None:
        self._descriptors = descriptors
        self._last: tuple[TensorInfo, int, int] | None = None
        self._block: Array = np.empty(0, np.uint8)

    def rows(self, tensor: TensorInfo, start: int, stop: int) -> Array:
        """Rows `start:stop` of a tensor as bits, shared: do not write to them."""
        if self._last != (tensor, start, stop):
            self._last = None
            self._block = self._read(tensor, start, stop)
            self._last = (tensor, start, stop)
        return self._block

    def _read(self, tensor: TensorInfo, start: int, stop: int) -> Array:
        item_bytes = ITEM_BYTES[tensor.dtype]
        shape = (stop - start, *tensor.shape[1:])
        row_bytes = item_bytes * math.prod(tensor.shape[1:])
        block = np.empty(shape, np.dtype(f"u{item_bytes}"))
        with translated(tensor.file):
            read_into(
                self._descriptors[tensor.file],
                memoryview(block.reshape(-1).view(np.uint8)),  # type: ignore[arg-type]
                tensor.offset + start * row_bytes,
                tensor.file,
            )
        return block


def evaluate(expression: Expression, start: int, stop: int, reader: Reader) -> Array:
    """Rows `start:stop` of an expression as bits. Raises NotFinite for a bad cast."""
    match expression:
        case Slice(tensor=tensor, start=first, shape=shape):
            rows = reader.rows(tensor, first[0] + start, first[0] + stop)
            box = [slice(a, a + n) for a, n in zip(first[1:], shape[1:], strict=True)]
            return rows[(slice(None), *box)]
        case Zeros(dtype=dtype, shape=shape):
            return np.zeros((stop - start, *shape[1:]), np.dtype(f"u{ITEM_BYTES[dtype]}"))
        case Cast(part=part, dtype=dtype):
            values = cast(evaluate(part, start, stop, reader), part.dtype, dtype)
            if not is_finite(values, dtype):
                raise NotFinite(expression)
            return values
        case Join(parts=parts, dim=0):
            return _join_rows(parts, start, stop, reader)
        case Join(parts=parts, dim=dim):
            return np.concatenate([evaluate(p, start, stop, reader) for p in parts], axis=dim)


def _join_rows(parts: tuple[Expression, ...], start: int, stop: int, reader: Reader) -> Array:
    found = []
    first = 0
    for part in parts:
        last = first + part.shape[0]
        if first < stop and start < last:
            rows = evaluate(part, max(start, first) - first, min(stop, last) - first, reader)
            found.append(rows)
        first = last
    return found[0] if len(found) == 1 else np.concatenate(found, axis=0)


def row_cost_bytes(expression: Expression) -> int:
    """Memory that one row takes while it is made: source, result, and its test for infinity."""
    widest = max(
        (leaf.tensor.num_bytes // max(leaf.tensor.shape[0], 1) for leaf in leaves(expression)),
        default=0,
    )
    values = math.prod(expression.shape[1:])
    return widest + values * 3 * ITEM_BYTES[expression.dtype]
