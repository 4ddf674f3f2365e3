"""Which packages have their work in the bytes of artifacts, stage by stage.

Not among them: packages whose work is checked against something else (the hub client, by digests),
or whose answer is one and the same in all versions (hashes, JSON, YAML).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.engines import find_engine
from pipeline.installed import OURS, installed, readable
from pipeline.plan import Plan, SourcePlan
from pipeline.recipe.schema import Recipe
from pipeline.weights.journal import ARITHMETIC

LOGITS = ("onnxruntime", "tokenizers", "torch", "transformers")
"""What executes both checkpoints where `verify.logits` is on."""

TEXT = ("numpy", "onnxruntime", "onnxruntime-gpu", "tokenizers", "transformers")
"""What makes and judges the text of the smoke test; numpy draws from the logits."""

RUNTIMES = frozenset({"onnxruntime", "onnxruntime-gpu"})
"""Two packages with one import name: a machine has the one or the other."""

BUILT_STAGES = frozenset({"build", "package"})
"""Stages that the engine backend's own tools decide, too; a smoke test that executes the engine."""


def stage_tools(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """Stage -> distribution names, beside those of the engine backend; sorted.

    `download` has none: every byte that it brings is held against a digest. Graphs are spelt by
    protobuf, which promises the same bytes to nobody.
    """
    if recipe.package.kind == "pytorch":
        return {"package": (OURS,)}
    verify = {*ARITHMETIC, *LOGITS} if recipe.verify.logits else set(ARITHMETIC)
    graph = set() if recipe.engine.backend == "trtllm" else {"protobuf"}
    names = {
        "convert": {OURS, *ARITHMETIC},
        "verify": {OURS, *verify},
        "build": {OURS, *ARITHMETIC, *graph},
        "smoke": {OURS, *TEXT},
        "package": {OURS},
    }
    return {stage: tuple(sorted(wanted)) for stage, wanted in names.items()}


def is_built(plan: SourcePlan, stage: str) -> bool:
    """Whether the tools of the engine backend have their work in a stage's bytes."""
    if not isinstance(plan, Plan):
        return False
    return stage in BUILT_STAGES or (stage == "smoke" and plan.executor == "engine")


def tools_of(plan: SourcePlan, stage: str) -> dict[str, str]:
    """The tools of a stage that works here, with their versions."""
    found = installed(stage_tools(plan.recipe).get(stage, ()))
    if isinstance(plan, Plan) and is_built(plan, stage):
        found.update(plan.build_tools)
    return dict(sorted(found.items()))


def installed_build_tools(backends: Iterable[str]) -> dict[str, dict[str, str]]:
    """Engine backend -> its tools that are installed; a backend that has none here is absent."""
    found = {name: find_engine(name).tool_versions() for name in sorted(set(backends))}
    return {
        name: {tool: readable(tool, tools[tool]) for tool in sorted(tools)}
        for name, tools in found.items()
        if tools
    }


def merged(
    wanted: Iterable[str], locked: Mapping[str, str], found: Mapping[str, str], *, update: bool
) -> dict[str, str]:
    """What to lock of the wanted names: what was locked stays, unless it is to be found anew.

    What is not installed here stays as it was locked, so that a lock made where everything is does
    not shrink on a laptop.
    """
    first, second = (found, locked) if update else (locked, found)
    if RUNTIMES & first.keys():
        second = {name: second[name] for name in second.keys() - RUNTIMES}
    both = {**second, **first}
    return {name: both[name] for name in sorted(set(wanted)) if name in both}


def not_locked(wanted: Iterable[str], locked: Mapping[str, str]) -> list[str]:
    """The wanted packages of which no version is locked; of the runtimes one is enough."""
    missing = set(wanted) - locked.keys()
    return sorted(missing - RUNTIMES if RUNTIMES & locked.keys() else missing)


def merged_build_tools(
    wanted: Iterable[str],
    locked: Mapping[str, Mapping[str, str]],
    found: Mapping[str, Mapping[str, str]],
    *,
    update: bool,
) -> dict[str, dict[str, str]]:
    """The same for engine backends, whose tools belong together: one side's, never a mixture.

    Of two sides of which one has more of the same tools, that one: the other machine lacks some.
    """
    chosen = {}
    for backend in sorted(set(wanted)):
        old, new = locked.get(backend, {}), found.get(backend, {})
        first, second = (new, old) if update else (old, new)
        tools = second if first.keys() < second.keys() else first
        if tools:
            chosen[backend] = dict(sorted(tools.items()))
    return chosen
