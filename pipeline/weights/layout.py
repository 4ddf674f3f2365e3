"""The conversion plan: rules x headers x parallelism -> what every rank file holds, and from where.

Pure: nothing is read but what was given, and equal input makes an equal plan. `stream` carries it
out; `roundtrip` compares the result with the source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from math import prod

from pipeline.artifact import Json
from pipeline.checkpoint.huggingface import SourceCheckpoint
from pipeline.checkpoint.safetensors_file import ITEM_BYTES, encode_header
from pipeline.checkpoint.strict_json import listed, printable
from pipeline.checkpoint.trtllm import rank_file
from pipeline.errors import RecipeError, VerificationError
from pipeline.weights.config_translation import Translation, translate
from pipeline.weights.coverage import FLOATS, Coverage, cover
from pipeline.weights.divisors import check_parallelism, check_pipeline
from pipeline.weights.family import Family
from pipeline.weights.general_keys import NO_QUANTIZATION
from pipeline.weights.inventory import Inventory, expected_inventory
from pipeline.weights.makings import Making
from pipeline.weights.parallel import Parallelism
from pipeline.weights.patches import AnyPatch
from pipeline.weights.rules import fill
from pipeline.weights.shares import patches, target_shape


@dataclass(frozen=True, slots=True)
class TargetTensor:
    """One tensor of a rank file: what makes it, and for which rank."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    making: Making
    parallelism: Parallelism
    tp_rank: int

    @property
    def num_bytes(self) -> int:
        """Size of its values."""
        return ITEM_BYTES[self.dtype] * prod(self.shape)

    @property
    def patches(self) -> list[AnyPatch]:
        """What fills it, from its first row to its last."""
        return list(patches(self.making, self.parallelism, self.tp_rank))


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
        return len(self.header) + sum(tensor.num_bytes for tensor in self.tensors)

    def offsets(self) -> list[int]:
        """First byte of every tensor, from the start of the file."""
        sizes = [tensor.num_bytes for tensor in self.tensors]
        return list(accumulate(sizes[:-1], initial=len(self.header))) if sizes else []


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
    clamp: bool = False

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
    source: SourceCheckpoint,
    family: Family,
    parallelism: Parallelism,
    dtype: str,
    clamp: bool = False,
    *,
    code_is_compared: bool = False,
) -> ConversionPlan:
    """Plan the conversion of a source checkpoint to `dtype`.

    `clamp`: a value that a cast would make infinite becomes the largest finite one.
    `code_is_compared`: the source's own code, to which its `auto_map` points, is executed and its
    logits compared, so that it may be there.

    Raises RecipeError for a config that cannot be translated or a parallelism that does not fit
    the model, VerificationError for tensors that are missing, unknown or of a wrong shape.
    """
    check_pipeline(family.model_class, parallelism)
    if family.model_class.always_parallel_embedding and parallelism.tp_size > 1:
        parallelism = replace(parallelism, embedding_dim=0)
    given = _given(family, source.architecture, dtype, parallelism)
    translation = translate(
        family.config,
        family.model_class,
        source.config,
        source.architecture,
        given,
        frozenset({"auto_map"}) if code_is_compared else frozenset(),
    )
    coverage = cover(family.weight_map, translation.facts, source.tensors, family.optional_prefix)
    check_parallelism(coverage.makings, translation.facts, parallelism)
    ranks = _plan_ranks(coverage.makings, translation.facts, parallelism, dtype)
    plan = ConversionPlan(family, parallelism, dtype, source, translation, coverage, ranks, clamp)
    _check_inventory(plan)
    return plan


def _given(
    family: Family, architecture: str, dtype: str, parallelism: Parallelism
) -> dict[str, Json]:
    """The keys of config.json that the plan decides."""
    return {
        "architecture": family.writes_architecture or architecture,
        "dtype": dtype,
        "mapping": parallelism.mapping(),
        "quantization": dict(NO_QUANTIZATION),
        "use_parallel_embedding": parallelism.embedding_dim is not None,
        "embedding_sharding_dim": parallelism.embedding_dim or 0,
    }


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
        told = ", ".join(f"`{printable(dtype)}`" for dtype in found) or "none"
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
            tensors = [_make(m, held.start, parallelism, tp_rank, dtype) for m in chosen]
            # Wide values first, so that every tensor stays aligned to its own values.
            tensors.sort(key=lambda tensor: -ITEM_BYTES[tensor.dtype])
            ranks.append(RankPlan(rank_file(len(ranks)), tuple(tensors)))
    return tuple(ranks)


def _make(
    making: Making, first_layer: int, parallelism: Parallelism, tp_rank: int, dtype: str
) -> TargetTensor:
    """A target tensor of one rank."""
    layer = None if making.layer is None else making.layer - first_layer
    return TargetTensor(
        fill(making.rule.target, layer),
        making.rule.dtype or dtype,
        target_shape(making, parallelism, tp_rank),
        making,
        parallelism,
        tp_rank,
    )


def _check_inventory(plan: ConversionPlan) -> None:
    """The rules must make exactly what TensorRT-LLM requires: each tensor once, none random."""
    faults: list[str] = []
    for number, rank in enumerate(plan.ranks):
        made = [(tensor.name, (tensor.dtype, tensor.shape)) for tensor in rank.tensors]
        expected = expected_inventory(plan.family.model_class.parameters, plan.config, number)
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
    expected: Inventory,
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
