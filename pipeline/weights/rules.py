"""Weight rules: how target tensors are made from source tensors, as frozen data.

A rule names whole tensors by template: `{layer}` stands for a layer number, the source's on one
side, the pp rank's own (from 0) on the other; `{expert}` for the experts that a rank holds. Every
size, number of pieces and condition is a formula over config names (`formulas`); in a layer it may
read `layer`, the number in the model. A matrix is seen as [rows, columns], a vector as rows of one
column. Rules are read by `coverage` and `shares`; they do nothing themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Place = Literal["first", "last"]
"""The pp rank that holds a tensor which belongs to no layer."""

Over = Literal["tp", "moe_tp", "embedding_rows", "embedding_columns"]
"""What shares a tensor: all tp ranks, those that share an expert, or, with a parallel embedding
on that dim, the tp ranks."""


@dataclass(frozen=True, slots=True)
class Shard:
    """How ranks share a matrix: dim 0 (rows) or 1 (columns) of the target, after `transposed`.

    The dim consists of `unit` equal pieces that stay whole; each rank has as many of them.
    `replicate`: with fewer pieces than ranks, several ranks in a row have the same one piece.
    `pad`: the dim is first padded with zeros at its end, to a multiple of the ranks.
    """

    dim: int
    unit: str
    replicate: bool = False
    pad: bool = False
    over: Over = "tp"


@dataclass(frozen=True, slots=True)
class Pick:
    """Of dim 0 or 1 of a source: it consists of `groups` equal groups, of each `start:stop`."""

    dim: int
    groups: str
    start: str
    stop: str


@dataclass(frozen=True, slots=True)
class Plus:
    """A number is added to every value, in float32."""

    value: float


@dataclass(frozen=True, slots=True)
class Times:
    """Every value is multiplied with a fact, in float32."""

    factor: str


@dataclass(frozen=True, slots=True)
class UnitRows:
    """Every row is divided by its Euclidean norm."""


Change = Plus | Times | UnitRows


@dataclass(frozen=True, slots=True)
class Part:
    """Source values: a tensor, its shape by config name, what is taken of it, and who shares it.

    With `{expert}` in `source` it is one tensor per expert; `stacked`: one tensor that holds the
    matrices of all experts, one after the other, whatever its shape. `transposed`: rows of the
    target are columns of the source; with `blocks`, its rows are that many blocks, of which a pick
    takes some rows, each transposed by itself and shared whole.
    """

    source: str
    shape: tuple[str, ...]
    shards: tuple[Shard, ...] = ()
    pick: Pick | None = None
    transposed: bool = False
    stacked: bool = False
    change: Change | None = None
    blocks: str | None = None


@dataclass(frozen=True, slots=True)
class Product:
    """Per head, `transpose(keys) @ queries`: two linear steps of attention made one.

    Each part picks the rows of every head; heads are shared by the tp ranks.
    """

    queries: Part
    keys: Part
    heads: str


@dataclass(frozen=True, slots=True)
class Projection:
    """`rows @ by`: a linear step folded into the weight before it.

    `rows` is [rows, inner] and may be shared by its rows; `by` is [inner, columns], or with
    `transposed` [columns, inner], and may be shared by its columns.
    """

    rows: Part
    by: Part


@dataclass(frozen=True, slots=True)
class Make:
    """A target tensor: each rank's shares of all parts, one below the other.

    `groups`: the parts consist of that many groups of rows, and are joined group by group.
    `experts`: the same for the experts that a rank holds, and the target is [experts, rows,
    columns]. `on` places a tensor that belongs to no layer. `dtype` None: that of the checkpoint.
    """

    target: str
    parts: tuple[Part | Product | Projection, ...]
    groups: str | None = None
    experts: str | None = None
    on: Place | None = None
    when: str | None = None
    dtype: str | None = None

    @property
    def is_per_layer(self) -> bool:
        """Whether the rule makes one tensor in every layer."""
        return "{layer}" in self.target

    @property
    def sources(self) -> tuple[Part, ...]:
        """All parts that are read."""
        found: list[Part] = []
        for part in self.parts:
            match part:
                case Product():
                    found += [part.queries, part.keys]
                case Projection():
                    found += [part.rows, part.by]
                case Part():
                    found.append(part)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Drop:
    """A source tensor that is not converted, and why.

    It may be absent. `same_as` names a tensor that it must equal to the byte where it is there.
    `rows`: only these rows (`start:stop`, as formulas) are left out; rules use the rest.
    """

    source: str
    because: str
    same_as: str | None = None
    rows: tuple[str, str] | None = None
    when: str | None = None


WeightRule = Make | Drop


def fill(template: str, layer: int | None, expert: int | None = None) -> str:
    """The name that a template has in a layer, for an expert."""
    if expert is not None:
        template = template.replace("{expert}", str(expert))
    return template if layer is None else template.replace("{layer}", str(layer))
