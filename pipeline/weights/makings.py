"""Applications of weight rules with their tensors: no formulas left, only numbers."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.weights.rules import Change, Make, Over


@dataclass(frozen=True, slots=True)
class Split:
    """How a dim of a matrix is shared: `pieces` is the value of `unit` (see `rules.Shard`)."""

    dim: int
    unit: str
    pieces: int
    replicate: bool
    pad: bool
    over: Over


@dataclass(frozen=True, slots=True)
class Taken:
    """A part with its tensors: matrices of [rows, columns], of which a pick may take some.

    `picked` is (dim, size of a group, start, stop). `factor` is the number of a `Times` change.
    """

    tensors: tuple[TensorInfo, ...]
    rows: int
    columns: int
    picked: tuple[int, int, int, int] | None
    transposed: bool
    splits: tuple[Split, ...]
    change: Change | None
    factor: float
    blocks: int = 0


@dataclass(frozen=True, slots=True)
class TakenProduct:
    """A product with its tensors."""

    queries: Taken
    keys: Taken
    heads: Split


@dataclass(frozen=True, slots=True)
class TakenProjection:
    """A projection with its tensors."""

    rows: Taken
    by: Taken


AnyTaken = Taken | TakenProduct | TakenProjection


@dataclass(frozen=True, slots=True)
class Making:
    """One application of a rule: in one layer of the model, or (None) outside of all."""

    rule: Make
    layer: int | None
    parts: tuple[AnyTaken, ...]
    groups: int
    num_experts: int

    @property
    def sources(self) -> tuple[TensorInfo, ...]:
        """All tensors that are read."""
        found: list[TensorInfo] = []
        for part in self.parts:
            found += [info for taken in taken_of(part) for info in taken.tensors]
        return tuple(found)


def taken_of(part: AnyTaken) -> tuple[Taken, ...]:
    """The sources of a part."""
    match part:
        case TakenProduct():
            return part.queries, part.keys
        case TakenProjection():
            return part.rows, part.by
    return (part,)
