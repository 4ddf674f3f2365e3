"""Every source tensor is used or dropped by name; every one that is used has its shape.

Nothing is read but headers. All faults of a checkpoint are reported together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.checkpoint.strict_json import listed
from pipeline.errors import RecipeError, VerificationError
from pipeline.weights.rules import Drop, Make, WeightRule, applies, fill, is_per_layer
from pipeline.weights.sizes import evaluate_shape

FLOATS = ("bfloat16", "float16", "float32")
"""Dtypes that are converted, in any direction."""


@dataclass(frozen=True, slots=True)
class Making:
    """One application of a rule: in one layer of the model, or (None) outside of all."""

    rule: Make
    layer: int | None
    sources: tuple[TensorInfo, ...]


@dataclass(frozen=True)
class Coverage:
    """What becomes of the source tensors; `equal` are pairs that must hold the same bytes."""

    makings: tuple[Making, ...]
    dropped: Mapping[str, str]
    equal: tuple[tuple[TensorInfo, TensorInfo], ...]


def cover(
    rules: Sequence[WeightRule], facts: Mapping[str, Json], tensors: Mapping[str, TensorInfo]
) -> Coverage:
    """Match the rules with the tensors of a source.

    Raises VerificationError listing all tensors that are missing, of a wrong shape or not known
    to the family, and RecipeError where the source's dtype is not converted.
    """
    held = [rule for rule in rules if applies(rule, facts)]
    faults: list[str] = []
    makings: list[Making] = []
    for rule in held:
        if not isinstance(rule, Drop):
            makings += _apply(rule, facts, tensors, faults)
    used = {info.name for making in makings for info in making.sources}
    wanted = {name for rule in held if not isinstance(rule, Drop) for name in _names(rule, facts)}
    drops = [rule for rule in held if isinstance(rule, Drop)]
    dropped, equal, extra = _drop(drops, tensors, sorted(tensors.keys() - wanted))
    faults += [f"`{name}` is not a tensor of this family" for name in extra]
    for info, other in equal:
        if (info.dtype, info.shape) != (other.dtype, other.shape):
            faults.append(f"`{info.name}` is not of the dtype and shape of `{other.name}`")
    if faults:
        raise _mismatch(faults)
    _check_dtypes([tensors[name] for name in sorted(used)])
    return Coverage(tuple(makings), dropped, tuple(equal))


def _apply(
    rule: Make,
    facts: Mapping[str, Json],
    tensors: Mapping[str, TensorInfo],
    faults: list[str],
) -> Iterator[Making]:
    shapes = [evaluate_shape(part.shape, facts) for part in rule.parts]
    for layer in _layers(rule, facts):
        found = []
        for part, shape in zip(rule.parts, shapes, strict=True):
            info = tensors.get(fill(part.source, layer))
            if info is None:
                faults.append(f"`{fill(part.source, layer)}` is missing")
            elif info.shape != shape:
                faults.append(
                    f"`{info.name}` is {list(info.shape)}, expected {list(shape)} "
                    f"({', '.join(part.shape)})"
                )
            else:
                found.append(info)
        if len(found) == len(rule.parts):
            yield Making(rule, layer, tuple(found))


def _names(rule: Make, facts: Mapping[str, Json]) -> Iterator[str]:
    for layer in _layers(rule, facts):
        for part in rule.parts:
            yield fill(part.source, layer)


def _layers(rule: Make, facts: Mapping[str, Json]) -> Sequence[int | None]:
    return range(facts["num_hidden_layers"]) if is_per_layer(rule) else (None,)


def _drop(
    drops: Sequence[Drop], tensors: Mapping[str, TensorInfo], names: Sequence[str]
) -> tuple[dict[str, str], list[tuple[TensorInfo, TensorInfo]], list[str]]:
    """Of the names that no rule uses: the dropped ones with their reasons, and the rest."""
    patterns = [(drop, _pattern(drop.source)) for drop in drops]
    dropped: dict[str, str] = {}
    equal: list[tuple[TensorInfo, TensorInfo]] = []
    extra: list[str] = []
    for name in names:
        drop = next((drop for drop, pattern in patterns if pattern.fullmatch(name)), None)
        if drop is None:
            extra.append(name)
            continue
        dropped[name] = drop.because
        if drop.same_as is not None and drop.same_as in tensors:
            equal.append((tensors[name], tensors[drop.same_as]))
    return dropped, equal, extra


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\{layer\}", r"(0|[1-9][0-9]*)"))


def _check_dtypes(tensors: Sequence[TensorInfo]) -> None:
    faults = [f"`{info.name}` is {info.dtype}" for info in tensors if info.dtype not in FLOATS]
    if faults:
        raise RecipeError(
            f"the source holds dtypes that are not converted; converted are {', '.join(FLOATS)}",
            facts=listed(faults),
            hint="use the checkpoint as it was before quantization",
        )


def _mismatch(faults: list[str]) -> VerificationError:
    return VerificationError(
        "the tensors of the source do not fit its `config.json`: "
        f"{len(faults)} fault{'s' if len(faults) != 1 else ''}",
        facts=listed(faults),
        hint="check that config.json and all weight files are of the same checkpoint",
    )
