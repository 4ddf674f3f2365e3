"""Weight rules: how target tensors are made from source tensors, as frozen data.

A rule names whole tensors by template: `{layer}` stands for a layer number, the source's on one
side, the pp rank's own (from 0) on the other. Shapes are the source's, by config name (`sizes`).
Rules are read by `layout`, which turns them into byte ranges; they do nothing themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.artifact import Json

Place = Literal["first", "last"]
"""The pp rank that holds a tensor which belongs to no layer."""


@dataclass(frozen=True, slots=True)
class Shard:
    """How the tp ranks of a pp rank share a tensor.

    `dim` consists of `config[unit]` equal pieces that stay whole; each rank has as many of them.
    `replicate`: with fewer pieces than ranks, several ranks in a row have the same one piece.
    `pad`: the dim is first padded with zeros at its end, to a multiple of tp_size.
    """

    dim: int
    unit: str
    replicate: bool = False
    pad: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A source tensor, its shape by config name, and how it is shared."""

    source: str
    shape: tuple[str, ...]
    shard: Shard | None = None


@dataclass(frozen=True, slots=True)
class Rename:
    """One source tensor becomes one target tensor.

    `on` places a tensor that belongs to no layer. The rule applies if the fact `when` is true and
    the fact `unless` is not; facts are keys of the translated config.
    """

    source: str
    target: str
    shape: tuple[str, ...]
    shard: Shard | None = None
    on: Place | None = None
    when: str | None = None
    unless: str | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The source as the only part."""
        return (Part(self.source, self.shape, self.shard),)

    @property
    def dim(self) -> int:
        """The dim of joining, of no effect for one part."""
        return 0


@dataclass(frozen=True, slots=True)
class Concat:
    """Source tensors are shared out one by one, then a rank's shares are joined on `dim`."""

    parts: tuple[Part, ...]
    target: str
    dim: int = 0
    on: Place | None = None
    when: str | None = None
    unless: str | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """A source tensor that is not converted, and why.

    It may be absent. `same_as` names a tensor that it must equal to the byte where it is there.
    """

    source: str
    because: str
    same_as: str | None = None
    when: str | None = None
    unless: str | None = None


Make = Rename | Concat
WeightRule = Rename | Concat | Drop


def applies(rule: WeightRule, facts: Mapping[str, Json]) -> bool:
    """Whether the rule holds for a model with these facts."""
    wanted = rule.when is None or bool(facts[rule.when])
    return wanted and not (rule.unless is not None and facts[rule.unless])


def is_per_layer(rule: Make) -> bool:
    """Whether the rule makes one tensor in every layer."""
    return "{layer}" in rule.target


def fill(template: str, layer: int | None) -> str:
    """The name that a template has in a layer."""
    return template if layer is None else template.replace("{layer}", str(layer))
