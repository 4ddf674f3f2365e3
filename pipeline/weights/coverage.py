"""Every source tensor is used or dropped by name; every one that is used has its shape.

Nothing is read but headers. All faults of a checkpoint are reported together. The result has no
formulas left: it is what `shares` cuts up for the ranks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.checkpoint.strict_json import listed
from pipeline.errors import RecipeError, VerificationError
from pipeline.formulas import evaluate, evaluate_shape, evaluate_size, holds
from pipeline.weights.makings import (
    AnyTaken,
    Making,
    Split,
    Taken,
    TakenProduct,
    TakenProjection,
)
from pipeline.weights.rules import (
    Drop,
    Make,
    Part,
    Product,
    Projection,
    Times,
    WeightRule,
    fill,
)
from pipeline.wording import counted

FLOATS = ("bfloat16", "float16", "float32")
"""Dtypes that are converted, in any direction."""


@dataclass(frozen=True)
class Coverage:
    """What becomes of the source tensors.

    `equal` are pairs that must hold the same bytes; `unused` are rows that are left out of tensors
    which are used otherwise.
    """

    makings: tuple[Making, ...]
    dropped: Mapping[str, str]
    equal: tuple[tuple[TensorInfo, TensorInfo], ...]
    unused: Mapping[str, tuple[int, int]]


def cover(
    rules: Sequence[WeightRule],
    facts: Mapping[str, Json],
    tensors: Mapping[str, TensorInfo],
    optional_prefix: str = "",
) -> Coverage:
    """Match the rules with the tensors of a source.

    With an `optional_prefix` the rules' names may all be without it there.

    Raises VerificationError listing all tensors that are missing, of a wrong shape or not known
    to the family, and RecipeError where the source's dtype is not converted.
    """
    tensors = _named_in_full(rules, tensors, optional_prefix)
    faults: list[str] = []
    makings: list[Making] = []
    wanted: set[str] = set()
    for rule, layer, known in _applications(rules, facts):
        making = _match(rule, layer, known, tensors, faults, wanted)
        makings += [making] if making else []
    drops = [rule for rule in rules if isinstance(rule, Drop) and holds(rule.when, facts)]
    extra = sorted(tensors.keys() - wanted)
    dropped, equal, unknown = _drop([d for d in drops if d.rows is None], tensors, extra)
    faults += [f"`{name}` is not a tensor of this family" for name in unknown]
    for info, other in equal:
        if (info.dtype, info.shape) != (other.dtype, other.shape):
            faults.append(f"`{info.name}` is not of the dtype and shape of `{other.name}`")
    if faults:
        raise _mismatch(list(dict.fromkeys(faults)))  # parts of one tensor find the same fault
    _check_dtypes([tensors[name] for name in sorted(wanted)])
    unused = {
        tensors[drop.source].name: (
            evaluate_size(drop.rows[0], facts),
            evaluate_size(drop.rows[1], facts),
        )
        for drop in drops
        if drop.rows is not None
    }
    return Coverage(tuple(makings), dropped, tuple(equal), unused)


def _named_in_full(
    rules: Sequence[WeightRule], tensors: Mapping[str, TensorInfo], prefix: str
) -> Mapping[str, TensorInfo]:
    """The tensors by the rules' names, where no name has the prefix."""
    if not prefix or any(name.startswith(prefix) for name in tensors):
        return tensors
    makes = [rule for rule in rules if isinstance(rule, Make)]
    sources = [part.source for rule in makes for part in rule.sources]
    inside = [name.removeprefix(prefix) for name in sources if name.startswith(prefix)]
    roots = {name.partition(".")[0] for name in inside}
    return {
        prefix + name if name.partition(".")[0] in roots else name: info
        for name, info in tensors.items()
    }


def _applications(
    rules: Sequence[WeightRule], facts: Mapping[str, Json]
) -> Iterator[tuple[Make, int | None, Mapping[str, Json]]]:
    """Every rule in every layer in which it holds, with the facts of that layer."""
    for rule in rules:
        if isinstance(rule, Drop):
            continue
        layers = range(facts["num_hidden_layers"]) if rule.is_per_layer else (None,)
        for layer in layers:
            known = facts if layer is None else {**facts, "layer": layer}
            if holds(rule.when, known):
                yield rule, layer, known


def _match(
    rule: Make,
    layer: int | None,
    facts: Mapping[str, Json],
    tensors: Mapping[str, TensorInfo],
    faults: list[str],
    wanted: set[str],
) -> Making | None:
    """One application with its tensors; None where some are at fault."""
    before = len(faults)
    num_experts = evaluate_size(rule.experts, facts) if rule.experts else 0
    taken: dict[Part, Taken] = {}
    for part in rule.sources:
        experts = range(num_experts) if "{expert}" in part.source else (None,)
        names = [fill(part.source, layer, expert) for expert in experts]
        wanted.update(names)
        shape = evaluate_shape(part.shape, facts)
        found = list(_found(names, shape, part, tensors, faults))
        if len(found) == len(names):
            taken[part] = _take(part, tuple(found), shape, num_experts, facts)
    if len(faults) > before:
        return None
    parts = tuple(_assemble(part, taken, facts) for part in rule.parts)
    groups = evaluate_size(rule.groups, facts) if rule.groups else 1
    return Making(rule, layer, parts, groups, num_experts)


def _assemble(
    part: Part | Product | Projection, taken: Mapping[Part, Taken], facts: Mapping[str, Json]
) -> AnyTaken:
    match part:
        case Product():
            return TakenProduct(taken[part.queries], taken[part.keys], _heads(part, facts))
        case Projection():
            return TakenProjection(taken[part.rows], taken[part.by])
    return taken[part]


def _found(
    names: Sequence[str],
    shape: tuple[int, ...],
    part: Part,
    tensors: Mapping[str, TensorInfo],
    faults: list[str],
) -> Iterator[TensorInfo]:
    for name in names:
        info = tensors.get(name)
        if info is None:
            faults.append(f"`{name}` is missing")
        elif info.shape != shape:
            faults.append(
                f"`{name}` is {list(info.shape)}, expected {list(shape)} ({', '.join(part.shape)})"
            )
        else:
            yield info


def _take(
    part: Part,
    tensors: tuple[TensorInfo, ...],
    shape: tuple[int, ...],
    num_experts: int,
    facts: Mapping[str, Json],
) -> Taken:
    columns = shape[-1] if len(shape) > 1 else 1
    rows = math.prod(shape) // columns // (num_experts if part.stacked else 1)
    picked = None
    if part.pick is not None:
        pick = part.pick
        size = (columns if pick.dim else rows) // evaluate_size(pick.groups, facts)
        picked = (
            pick.dim,
            size,
            evaluate_size(pick.start, facts),
            evaluate_size(pick.stop, facts),
        )
    splits = tuple(
        Split(s.dim, s.unit, evaluate_size(s.unit, facts), s.replicate, s.pad, s.over)
        for s in part.shards
    )
    factor = evaluate(part.change.factor, facts) if isinstance(part.change, Times) else 1.0
    blocks = evaluate_size(part.blocks, facts) if part.blocks else 0
    return Taken(
        tensors, rows, columns, picked, part.transposed, splits, part.change, factor, blocks
    )


def _heads(product: Product, facts: Mapping[str, Json]) -> Split:
    return Split(0, product.heads, evaluate_size(product.heads, facts), False, False, "tp")


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
        dropped[tensors[name].name] = drop.because
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
        f"the tensors of the source do not fit its `config.json`: {counted(len(faults), 'fault')}",
        facts=listed(faults),
        hint="check that config.json and all weight files are of the same checkpoint",
    )
