"""Config rules: how config.json of a source becomes config.json of a target, as frozen data.

Every key of the source is named by a rule of its family: it is translated, it must have a value
that changes nothing, or it is inert. A key that no rule names is an error, for it may change the
mathematics. The rules' order is the order of the keys that are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from pipeline.artifact import Json

Kind = Literal["count", "number", "flag", "text"]
"""`count`: an integer of 1 or more. `number`: finite, above 0. `flag`: true or false."""


@dataclass(frozen=True, slots=True)
class Required:
    """The default of a key that must be there."""


REQUIRED: Final = Required()


@dataclass(frozen=True, slots=True)
class Formula:
    """A default that is worked out from other keys of the target config (see `sizes`)."""

    text: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A key of the target, from one of its spellings in the source (default: the same name).

    Spellings that are there together must agree. A null counts as absent. `allowed` limits the
    values; `aliases` renames some first. `written=False` makes a fact for weight rules that is not
    written. `only` limits the rule to some of the family's architectures.
    """

    target: str
    kind: Kind
    sources: tuple[str, ...] = ()
    default: Json | Formula | Required = REQUIRED
    allowed: tuple[Json, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    written: bool = True
    only: tuple[str, ...] = ()

    @property
    def spellings(self) -> tuple[str, ...]:
        """The keys of the source that it consumes."""
        return self.sources or (self.target,)


@dataclass(frozen=True, slots=True)
class Constant:
    """A key of the target that is the same for every model of the family."""

    target: str
    value: Json


@dataclass(frozen=True, slots=True)
class Given:
    """A key of the target that the plan decides; `consumes` are source keys it was decided from."""

    target: Literal["architecture", "dtype", "mapping"]
    consumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RopeType:
    """The keys of one kind of rope scaling beside its type and `rope_theta`.

    `length_default`: `original_max_position_embeddings` is written even where the source leaves it
    out; transformers then takes `max_position_embeddings`, TensorRT-LLM a constant of its own.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    length_default: bool = False


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary base and scaling, from `rope_theta` and `rope_scaling` or from `rope_parameters`."""

    base: str
    scaling: str
    default_base: float
    types: Mapping[str, RopeType]


@dataclass(frozen=True, slots=True)
class Window:
    """The key that limits attention to the last tokens, and its default where it is absent.

    The target cannot express it: it limits the length up to which the engine is right.
    """

    source: str
    default: int | None
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Neutral:
    """A key that is only understood with these values, with which it changes nothing."""

    source: str
    values: tuple[Json, ...]
    because: str
    hint: str | None = None
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inert:
    """Keys that change nothing of what a forward pass computes, whatever their values."""

    sources: tuple[str, ...]
    because: str
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Divides:
    """A size of the target that must be a whole multiple of another (see `sizes`)."""

    divisor: str
    size: str


ConfigRule = Copy | Constant | Given | Rope | Window | Neutral | Inert | Divides
