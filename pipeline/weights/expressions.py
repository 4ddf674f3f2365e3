"""How a target tensor is made from source bytes, as a tree of frozen nodes.

Every node has a dtype and a shape, known before any byte is read. An operation that a family needs
(a transpose, an offset added to a norm, a stack of experts) is one more node here and one more case
in `blocks.evaluate`. A tree without `Cast` whose leaves are whole rows is byte ranges in sequence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.checkpoint.safetensors_file import ITEM_BYTES, TensorInfo


@dataclass(frozen=True, slots=True)
class Slice:
    """A box of a source tensor: `shape` values from `start` in every dim."""

    tensor: TensorInfo
    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """The source's dtype."""
        return self.tensor.dtype

    @property
    def has_whole_rows(self) -> bool:
        """Whether the box is one byte range: it is cut in dim 0 only."""
        return self.shape[1:] == self.tensor.shape[1:]


@dataclass(frozen=True, slots=True)
class Zeros:
    """Padding."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """Parts of one dtype, concatenated on `dim`."""

    parts: tuple[Expression, ...]
    dim: int

    @property
    def dtype(self) -> str:
        """The parts' dtype."""
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The parts' shape, with the sizes on `dim` added up."""
        shape = list(self.parts[0].shape)
        shape[self.dim] = sum(part.shape[self.dim] for part in self.parts)
        return tuple(shape)


@dataclass(frozen=True, slots=True)
class Cast:
    """Values of a source in another floating-point dtype, rounded to nearest even."""

    part: Slice
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The part's shape."""
        return self.part.shape


Expression = Slice | Zeros | Join | Cast


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Consecutive bytes of a weight file, or (`file` None) zeros."""

    file: str | None
    offset: int
    num_bytes: int


def num_bytes(expression: Expression) -> int:
    """Size of the values that an expression makes."""
    return ITEM_BYTES[expression.dtype] * math.prod(expression.shape)


def leaves(expression: Expression) -> Iterator[Slice]:
    """All source boxes that are read, in order."""
    match expression:
        case Slice():
            yield expression
        case Cast():
            yield expression.part
        case Join():
            for part in expression.parts:
                yield from leaves(part)
        case Zeros():
            return


def byte_ranges(expression: Expression) -> list[ByteRange] | None:
    """The bytes of the expression as ranges in sequence; None where they must be computed."""
    match expression:
        case Zeros():
            return [ByteRange(None, 0, num_bytes(expression))]
        case Slice(tensor=tensor) if expression.has_whole_rows:
            rows = tensor.shape[0] if tensor.shape else 1
            first = expression.start[0] if tensor.shape else 0
            begin = tensor.offset + first * (tensor.num_bytes // max(rows, 1))
            return [ByteRange(tensor.file, begin, num_bytes(expression))]
        case Join(parts=parts, dim=0):
            ranges = [byte_ranges(part) for part in parts]
            if any(found is None for found in ranges):
                return None
            return [item for found in ranges for item in found or ()]
        case _:
            return None


def explain(expression: Expression, indent: str = "") -> list[str]:
    """Lines that say how the values are made, for people."""
    shape = list(expression.shape)
    match expression:
        case Slice(tensor=tensor, start=start):
            box = ", ".join(
                f"{a}:{a + n}" if n != whole else ":"
                for a, n, whole in zip(start, expression.shape, tensor.shape, strict=True)
            )
            return [f"{indent}`{tensor.name}`[{box}] of `{tensor.file}`, {tensor.dtype} {shape}"]
        case Zeros(dtype=dtype):
            return [f"{indent}zeros, {dtype} {shape}"]
        case Cast(part=part, dtype=dtype):
            return [f"{indent}cast to {dtype}", *explain(part, indent + "  ")]
        case Join(parts=parts, dim=dim):
            head = f"{indent}joined on dim {dim}, {expression.dtype} {shape}"
            return [head, *(line for part in parts for line in explain(part, indent + "  "))]
