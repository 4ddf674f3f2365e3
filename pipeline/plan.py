"""The plan: a recipe resolved for one source, with nothing left to decide and no weight read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from pipeline.checkpoint.huggingface import SourceCheckpoint
from pipeline.checkpoint.safetensors_file import ITEM_BYTES
from pipeline.engines import find_engine
from pipeline.engines.engine import Engine
from pipeline.engines.reference import reference_problems
from pipeline.errors import PipelineError, PlanRefused, Problem
from pipeline.families import find_family
from pipeline.hardware import Hardware
from pipeline.parity.memory import logits_memory, most_layers
from pipeline.parity.problems import logits_problems
from pipeline.plan_problems import (
    backend_problems,
    code_problems,
    has_tokenizer,
    length_problems,
    smoke_problems,
    tokenizer_problems,
)
from pipeline.progress import no_note
from pipeline.recipe.fitted_limits import fit_limits
from pipeline.recipe.load import LoadedRecipe
from pipeline.recipe.schema import Checkpoint, Recipe
from pipeline.recipe.verify_section import Verify
from pipeline.sources import AnySource, Pin, open_source
from pipeline.sources.digest_memory import DigestMemory
from pipeline.weights.layout import ConversionPlan, plan_conversion, resolve_dtype
from pipeline.weights.parallel import Parallelism
from pipeline.weights.stream import DEFAULT_MEMORY_BYTES

INTERPRETER_BYTES = 100 << 20
"""What converting takes at any model size, beside what `max_memory_bytes` allows."""

SMOKE_MEMORY_BYTES = 700 << 20
"""The tokenizer's and the runtime's own, beside the weights."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a stage takes while it runs: disk for its artifact, host memory.

    `less_memory` is what makes it take less, for the hint of a problem.
    """

    disk_bytes: int = 0
    memory_bytes: int = 0
    less_memory: str | None = None


@dataclass(frozen=True)
class SourcePlan:
    """What every plan has, also one without an engine: the recipe, its source, needs, problems.

    `pin` is what a lock file holds the source to, where there is one; `locked_tools` are the tools
    of each stage, by name and version, where that lock is frozen.
    """

    recipe: Recipe
    source: AnySource
    checkpoint: SourceCheckpoint
    hardware: Hardware
    needs: Mapping[str, Need]
    problems: tuple[Problem, ...]
    pin: Pin | None = field(default=None, kw_only=True)
    locked_tools: Mapping[str, Mapping[str, str]] | None = field(default=None, kw_only=True)


AnyPlan = TypeVar("AnyPlan", bound=SourcePlan)


@dataclass(frozen=True)
class Plan(SourcePlan):
    """A recipe resolved for an engine. Stages read it; their `settings` say which parts."""

    conversion: ConversionPlan
    engine: Engine
    build_tools: Mapping[str, str]
    executor: str
    executor_reason: str | None
    max_memory_bytes: int
    cache_dir: Path


def resolve(
    loaded: LoadedRecipe,
    *,
    memory: DigestMemory,
    hardware: Hardware,
    cache_dir: Path,
    offline: bool = False,
    max_memory_bytes: int = DEFAULT_MEMORY_BYTES,
    pin: Pin | None = None,
    note: Callable[[str], None] = no_note,
) -> Plan:
    """Resolve a recipe: source, family, layout, engine; find what would fail.

    Problems that leave the plan whole are listed in it. Raises PlanRefused with all that was found
    where no conversion is possible, and RemoteError or RecipeError where the source cannot be
    read. No weight is read: digests of a local source that was never hashed stay unknown.
    `max_memory_bytes` is what converting may use beyond the interpreter, `cache_dir` a folder where
    engine backends keep what makes later builds faster; no result depends on them. `pin` is what a
    lock says of the source: it is opened there, and refused where a frozen one differs. `note` is
    told where a site is asked once more.
    """
    recipe = loaded.recipe
    source = open_source(
        recipe.source, loaded.base_dir, memory, offline=offline, pin=pin, note=note
    )
    checkpoint = source.checkpoint()
    engine = find_engine(recipe.engine.backend)
    unavailable = backend_problems(engine, hardware)
    try:
        conversion = _conversion(recipe, checkpoint)
    except PipelineError as error:
        source.doubt()
        problem = Problem.of("convert", error)
        hint = problem.hint or "docs/families.md says what can be converted of which architecture"
        raise PlanRefused([replace(problem, hint=hint), *unavailable]) from None
    longest = conversion.translation.longest_tokens
    window = None if engine.applies_windows else conversion.translation.window
    recipe = fit_limits(recipe, conversion.config, window, longest)
    num_ranks = conversion.parallelism.world_size
    reason = engine.why_not_runnable(recipe.engine, hardware, num_ranks=num_ranks)
    problems = [*unavailable, *_problems(recipe, source, conversion, engine, hardware, reason)]
    return Plan(
        recipe=recipe,
        source=source,
        checkpoint=checkpoint,
        conversion=conversion,
        engine=engine,
        build_tools=engine.tool_versions(),
        executor="engine" if reason is None else "onnxruntime",
        executor_reason=reason,
        hardware=hardware,
        needs=_needs(source, conversion, engine, recipe, max_memory_bytes, hardware),
        max_memory_bytes=max_memory_bytes,
        cache_dir=cache_dir,
        problems=tuple(problems),
        pin=pin,
    )


def _conversion(recipe: Recipe, checkpoint: SourceCheckpoint) -> ConversionPlan:
    """Raises RecipeError or VerificationError where none is possible."""
    return plan_conversion(
        checkpoint,
        find_family(checkpoint.architecture),
        _parallelism(recipe.checkpoint),
        resolve_dtype(recipe.checkpoint.dtype, checkpoint),
        recipe.checkpoint.clamp,
        code_is_compared=bool(recipe.source.remote_code) and recipe.verify.logits,
    )


def _problems(
    recipe: Recipe,
    source: AnySource,
    conversion: ConversionPlan,
    engine: Engine,
    hardware: Hardware,
    reason: str | None,
) -> Iterator[Problem]:
    """What would fail after the conversion; `reason`: why the engine cannot be executed here."""
    config, translation = conversion.config, conversion.translation
    yield from engine.problems(config, recipe.engine, hardware)
    if not engine.applies_windows:
        yield from length_problems(translation.window, translation.longest_tokens, recipe)
    yield from tokenizer_problems(source)
    has_text, source_config = has_tokenizer(source), conversion.source.config
    yield from code_problems(recipe, source, source_config)
    yield from logits_problems(
        recipe.verify,
        source_config,
        config,
        has_tokenizer=has_text,
        has_code=bool(recipe.source.remote_code),
    )
    yield from smoke_problems(recipe, reason)
    yield from reference_problems(config, recipe.engine, recipe.smoke.compare, reason)


def _parallelism(checkpoint: Checkpoint) -> Parallelism:
    """The recipe's sizes; the schema has checked them against each other."""
    return Parallelism(
        checkpoint.tp_size,
        checkpoint.pp_size,
        checkpoint.cp_size,
        moe_tp_size=checkpoint.moe_tp_size or 0,
        moe_ep_size=checkpoint.moe_ep_size or 0,
        embedding_dim=checkpoint.embedding_sharding_dim
        if checkpoint.use_parallel_embedding
        else None,
    )


def with_digests(plan: AnyPlan) -> AnyPlan:
    """The same plan with the digest of every source file, reading local files never hashed."""
    return replace(plan, source=plan.source.hashed())


def _needs(
    source: AnySource,
    conversion: ConversionPlan,
    engine: Engine,
    recipe: Recipe,
    max_memory_bytes: int,
    hardware: Hardware,
) -> dict[str, Need]:
    """Disk and memory that each stage takes, from sizes that are known before any work."""
    estimate = engine.estimate(conversion.config, recipe.engine, conversion.target_bytes)
    engine_bytes = estimate["disk_bytes"]
    float32_bytes = conversion.target_bytes * 4 // ITEM_BYTES[conversion.dtype]
    converting = INTERPRETER_BYTES + max_memory_bytes
    tar_bytes = engine_bytes if "tar" in recipe.package.formats else 0
    return {
        "download": Need(disk_bytes=source.listing.total_bytes),
        "convert": Need(conversion.target_bytes, converting),
        "verify": _verify_need(conversion, recipe.verify, converting, hardware),
        "build": Need(engine_bytes, estimate["memory_bytes"]),
        # Executed on the CPU in the worst case: all weights in float32, some of them twice while
        # they are packed (measured: 4.2 bytes a weight, 357 M of bfloat16).
        "smoke": Need(memory_bytes=SMOKE_MEMORY_BYTES + float32_bytes * 5 // 4),
        # The release folder shares its files with the engine's artifact where links are possible.
        "package": Need(tar_bytes),
    }


def _verify_need(
    conversion: ConversionPlan, verify: Verify, round_trip_bytes: int, hardware: Hardware
) -> Need:
    """The round trip's memory, or that of executing both checkpoints where logits are compared."""
    if not verify.logits:
        return Need(memory_bytes=round_trip_bytes)
    total: int = conversion.config["num_hidden_layers"]
    wanted = total if verify.layers == "all" else min(verify.layers, total)
    fitting = most_layers(conversion, verify, hardware.available_memory_bytes)
    fewer = f"set `verify.layers: {fitting}`" if fitting else "set `verify.logits: false`"
    needed = max(round_trip_bytes, logits_memory(conversion, wanted, verify))
    return Need(memory_bytes=needed, less_memory=f"{fewer}, or use a machine with more memory")
