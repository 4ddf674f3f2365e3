"""The conversion plan: rules x headers x parallelism -> what every rank file holds, and from where.

Pure: nothing is read but what was given, and equal input makes an equal plan. `stream` carries it
out; `roundtrip` checks the result in a way of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.artifact import Json
from pipeline.checkpoint.huggingface import SourceCheckpoint
from pipeline.checkpoint.safetensors_file import ITEM_BYTES, encode_header
from pipeline.checkpoint.strict_json import listed
from pipeline.checkpoint.trtllm import rank_file
from pipeline.errors import RecipeError, VerificationError
from pipeline.weights.config_translation import Translation, translate
from pipeline.weights.coverage import FLOATS, Coverage, Making, cover
from pipeline.weights.expressions import Expression, Join, num_bytes
from pipeline.weights.family import Family
from pipeline.weights.inventory import expected_inventory
from pipeline.weights.parallel import Parallelism
from pipeline.weights.rules import fill
from pipeline.weights.shares import check_parallelism, share


@dataclass(frozen=True, slots=True)
class TargetTensor:
    """One tensor of a rank file, and how it is made."""

    name: str
    expression: Expression

    @property
    def dtype(self) -> str:
        """Its dtype in the rank file."""
        return self.expression.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape in the rank file."""
        return self.expression.shape


@dataclass(frozen=True)
class RankPlan:
    """One rank file: its name, and its tensors in the order of their bytes."""

    file: str
    tensors: tuple[TargetTensor, ...]

    @cached_property
    def header(self) -> bytes:
        """The first bytes of the file, up to the first tensor."""
        return encode_header([(tensor.name, tensor.dtype, tensor.shape) for tensor in self.tensors])

    @cached_property
    def num_bytes(self) -> int:
        """Size of the file."""
        return len(self.header) + sum(num_bytes(tensor.expression) for tensor in self.tensors)

    def offsets(self) -> list[int]:
        """First byte of every tensor, from the start of the file."""
        offsets, position = [], len(self.header)
        for tensor in self.tensors:
            offsets.append(position)
            position += num_bytes(tensor.expression)
        return offsets


@dataclass(frozen=True)
class ConversionPlan:
    """What is written, from what. `config` is the target's config.json in the order of its keys."""

    family: Family
    parallelism: Parallelism
    dtype: str
    source: SourceCheckpoint
    translation: Translation
    coverage: Coverage
    ranks: tuple[RankPlan, ...]

    @property
    def config(self) -> Mapping[str, Json]:
        """The target's config.json."""
        return self.translation.config

    @property
    def source_bytes(self) -> int:
        """Bytes of all tensors of the source."""
        return self.source.weight_bytes

    @property
    def target_bytes(self) -> int:
        """Bytes of all rank files."""
        return sum(rank.num_bytes for rank in self.ranks)


def plan_conversion(
    source: SourceCheckpoint, family: Family, parallelism: Parallelism, dtype: str
) -> ConversionPlan:
    """Plan the conversion of a source checkpoint to `dtype`.

    Raises RecipeError for a config that cannot be translated or a parallelism that does not fit
    the model, VerificationError for tensors that are missing, unknown or of a wrong shape.
    """
    given = {
        "architecture": source.architecture,
        "dtype": dtype,
        "mapping": parallelism.mapping(),
    }
    translation = translate(family.config, source.config, source.architecture, given)
    check_parallelism(family.weight_map, translation.facts, parallelism)
    coverage = cover(family.weight_map, translation.facts, source.tensors)
    ranks = _plan_ranks(coverage.makings, translation.facts, parallelism, dtype)
    plan = ConversionPlan(family, parallelism, dtype, source, translation, coverage, ranks)
    _check_inventory(plan)
    return plan


def resolve_dtype(recipe_dtype: str, source: SourceCheckpoint) -> str:
    """The dtype to write: `auto` is that of the source's config, else of all its tensors.

    Raises RecipeError where `auto` does not say one. (TensorRT-LLM's own `auto` turns float32 into
    float16; here a conversion that was not asked for changes no value.)
    """
    if recipe_dtype != "auto":
        return recipe_dtype
    named = {key: source.config.get(key) for key in ("torch_dtype", "dtype")}
    found = sorted({str(value) for value in named.values() if value is not None})
    if not found:
        found = sorted({tensor.dtype for tensor in source.tensors.values()} & set(FLOATS))
    if len(found) != 1 or found[0] not in FLOATS:
        told = ", ".join(f"`{dtype}`" for dtype in found) or "none"
        raise RecipeError(
            f"`checkpoint.dtype` is `auto`, but the source does not name one dtype: {told}",
            hint=f"set `checkpoint.dtype` to one of {', '.join(FLOATS)}",
        )
    return found[0]


def _plan_ranks(
    makings: Sequence[Making], facts: Mapping[str, Json], parallelism: Parallelism, dtype: str
) -> tuple[RankPlan, ...]:
    outside: dict[str | None, list[Making]] = {"first": [], "last": [], None: []}
    layers: list[list[Making]] = [[] for _ in range(facts["num_hidden_layers"])]
    for making in makings:
        where = outside[making.rule.on] if making.layer is None else layers[making.layer]
        where.append(making)
    ranks: list[RankPlan] = []
    for pp_rank in range(parallelism.pp_size):
        held = parallelism.layers(pp_rank, len(layers))
        chosen = outside["first"] if pp_rank == 0 else []
        chosen = chosen + outside[None] + [item for layer in held for item in layers[layer]]
        chosen += outside["last"] if pp_rank == parallelism.pp_size - 1 else []
        for tp_rank in range(parallelism.tp_size):
            tensors = [_make(m, held.start, facts, parallelism, tp_rank, dtype) for m in chosen]
            # Wide values first, so that every tensor stays aligned to its own values.
            tensors.sort(key=lambda tensor: -ITEM_BYTES[tensor.dtype])
            ranks.append(RankPlan(rank_file(len(ranks)), tuple(tensors)))
    return tuple(ranks)


def _make(
    making: Making,
    first_layer: int,
    facts: Mapping[str, Json],
    parallelism: Parallelism,
    tp_rank: int,
    dtype: str,
) -> TargetTensor:
    """A target tensor of one rank: each part is shared first, then the shares are joined."""
    rule, layer = making.rule, making.layer
    shares: list[Expression] = []
    for part, info in zip(rule.parts, making.sources, strict=True):
        shares.append(share(info, part.shard, facts, parallelism.tp_size, tp_rank, dtype))
    expression = shares[0] if len(shares) == 1 else Join(tuple(shares), rule.dim)
    return TargetTensor(
        fill(rule.target, None if layer is None else layer - first_layer), expression
    )


def _check_inventory(plan: ConversionPlan) -> None:
    """The rules must make exactly what TensorRT-LLM requires: each tensor once, none random."""
    faults: list[str] = []
    for number, rank in enumerate(plan.ranks):
        made = [(tensor.name, (tensor.dtype, tensor.shape)) for tensor in rank.tensors]
        expected = expected_inventory(plan.family.inventory, plan.config, number)
        faults += inventory_faults(rank.file, made, expected)
    if faults:
        raise VerificationError(
            f"the rules of the family `{plan.family.name}` do not make what TensorRT-LLM requires",
            facts=listed(faults),
            hint="this is a fault of the family file, not of the checkpoint",
        )


def inventory_faults(
    file: str,
    made: Sequence[tuple[str, tuple[str, tuple[int, ...]]]],
    expected: Mapping[str, tuple[str, tuple[int, ...]]],
) -> list[str]:
    """Differences between the tensors of a rank file and what it must hold."""
    found = dict(made)
    counts = Counter(name for name, _ in made)
    faults = [f"`{name}` of `{file}` is made twice" for name in found if counts[name] > 1]
    faults += [f"`{name}` of `{file}` is missing" for name in expected.keys() - found.keys()]
    faults += [f"`{name}` of `{file}` is not required" for name in found.keys() - expected.keys()]
    for name in found.keys() & expected.keys():
        if found[name] != expected[name]:
            (dtype, shape), (wanted_dtype, wanted) = found[name], expected[name]
            faults.append(
                f"`{name}` of `{file}` is {dtype} {list(shape)}, expected {wanted_dtype} "
                f"{list(wanted)}"
            )
    return sorted(faults)
