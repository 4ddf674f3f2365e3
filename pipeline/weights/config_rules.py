"""Config rules: how config.json of a source becomes config.json of a target, as frozen data.

Every key of the source is named by a rule of its family: it is translated, it must have a value
that changes nothing, or it is inert. A key that no rule names is an error, for it may change the
mathematics. Which keys are written, in which order, and with which values where no rule sets them,
is the model class's to say (`model_class`). A rule's target may be inside an object: `moe.top_k`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from pipeline.artifact import Json

Kind = Literal["count", "natural", "number", "real", "flag", "text", "list"]
"""`count`: an integer of 1 or more. `natural`: of 0 or more. `number`: above 0. `real`: any that a
float32 holds, as `number`. `flag`: true or false. Integers are of 31 bits, as TensorRT's and
TensorRT-LLM's sizes."""

MAX_COUNT = 2**31 - 1
MAX_NUMBER = 3e38


@dataclass(frozen=True, slots=True)
class Required:
    """The default of a key that must be there."""


REQUIRED: Final = Required()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The default of a key that is only written where a rule sets it."""


LEFT_OUT: Final = LeftOut()


@dataclass(frozen=True, slots=True)
class Formula:
    """A default that is worked out from facts (see `formulas`)."""

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
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Computed:
    """A key of the target that follows from facts; worked out after all copies, in order.

    `written=False` makes a fact for weight rules and other formulas. `when` limits it to facts.
    """

    target: str
    formula: str
    written: bool = True
    only: tuple[str, ...] = ()
    when: str | None = None


@dataclass(frozen=True, slots=True)
class Each:
    """A list of objects of the target, made from a list of the source item by item.

    `values`: formulas by the target's keys (`attention.impl`); they read `item` and other facts.
    `reads`: the keys of an item that they read, with their kinds (count, number or flag); one that
    is absent is None, or false for a flag. The key `` is an item that is no object. `neutral`: keys
    that are only understood with these values. `length`: how many items there must be.
    """

    target: str
    source: str
    values: Mapping[str, str]
    reads: Mapping[str, Kind]
    neutral: Mapping[str, tuple[Json, ...]] = field(default_factory=lambda: MappingProxyType({}))
    length: str = "num_hidden_layers"


@dataclass(frozen=True, slots=True)
class Unfold:
    """An object of the source, whose keys other rules name as `<source>.<key>`."""

    source: str


@dataclass(frozen=True, slots=True)
class Given:
    """Keys of the source from which the plan decides something."""

    consumes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RopeType:
    """The keys of one kind of rope scaling beside its type and `rope_theta`.

    `length_default`: `original_max_position_embeddings` is written even where the source leaves it
    out; transformers then takes `max_position_embeddings`, TensorRT-LLM a constant of its own.
    `lists`: keys whose values are lists of numbers. `added`: keys that only the target has.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    length_default: bool = False
    lists: tuple[str, ...] = ()
    added: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary base and scaling, from `rope_theta` and `rope_scaling` or from `rope_parameters`.

    `scaling` None: the target cannot express any. `fraction`: the fact for the rotated part of a
    head (`partial_rotary_factor`), `default_fraction` where it is absent; None: all is rotated.
    `base_keys` and `fraction_keys` are their spellings beside those objects. `default_base` None:
    there must be one. `layers`: the type of layers that it is about (`full_attention`), where
    `rope_parameters` has an object for each type.
    """

    base: str
    scaling: str | None
    default_base: float | None
    types: Mapping[str, RopeType]
    fraction: str | None = None
    default_fraction: float = 1.0
    written: bool = True
    base_keys: tuple[str, ...] = ("rope_theta",)
    fraction_keys: tuple[str, ...] = ("partial_rotary_factor",)
    layers: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The key that limits attention to the last tokens, and its default where it is absent.

    `layers`: in which layers, a formula over facts and `layer`. `when`: whether there is a window,
    a formula over facts that rules before it copy; null is an error then, while it means none where
    there is no `when`. `written`: `attention_windows` of the target's config.json says so (see
    `attention_windows`); else keys of the class do.
    """

    source: str
    default: int | None
    layers: str = "True"
    when: str | None = None
    written: bool = True
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Longest:
    """The key beyond whose number of tokens a model does what the target cannot express."""

    source: str
    default: int | None
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Neutral:
    """A key that is only understood with these values, with which it changes nothing.

    `fallback`: only where no rule before it names the key.
    """

    source: str
    values: tuple[Json, ...]
    because: str
    hint: str | None = None
    only: tuple[str, ...] = ()
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class Inert:
    """Keys that change nothing of what a forward pass computes, whatever their values."""

    sources: tuple[str, ...]
    because: str
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Divides:
    """A size of the target that must be a whole multiple of another (see `formulas`)."""

    divisor: str
    size: str


@dataclass(frozen=True, slots=True)
class Require:
    """A condition over facts that must hold (see `formulas`), else `because` is the fault."""

    condition: str
    because: str
    hint: str | None = None


ConfigRule = (
    Copy
    | Constant
    | Computed
    | Each
    | Unfold
    | Given
    | Rope
    | Window
    | Longest
    | Neutral
    | Inert
    | Divides
    | Require
)
