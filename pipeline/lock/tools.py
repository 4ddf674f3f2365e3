"""Which packages have their work in the bytes of artifacts, stage by stage.

Not among them: packages whose work is checked against something else (the hub client, by digests),
or whose answer is one and the same in all versions (hashes, JSON, YAML).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

from pipeline import __version__
from pipeline.engines import find_engine
from pipeline.recipe.schema import Recipe

OURS = "trtllm-pack"

ARITHMETIC = ("ml_dtypes", "numpy")
"""Casts of weights, their comparison, and the constants of the decoder graph."""

LOGITS = ("onnxruntime", "tokenizers", "torch", "transformers")
"""What executes both checkpoints where `verify.logits` is on."""

TEXT = ("onnxruntime", "onnxruntime-gpu", "tokenizers", "transformers")
"""What makes and judges the text of the smoke test."""


RUNTIMES = frozenset({"onnxruntime", "onnxruntime-gpu"})
"""Two packages with one import name: a machine has the one or the other."""


def stage_tools(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """Stage -> distribution names, beside those of the engine backend; sorted.

    `download` has none: every byte that it brings is held against a digest.
    """
    if recipe.package.kind == "pytorch":
        return {"package": (OURS,)}
    verify = {*ARITHMETIC, *LOGITS} if recipe.verify.logits else set(ARITHMETIC)
    names = {
        "convert": {OURS, *ARITHMETIC},
        "verify": {OURS, *verify},
        "build": {OURS, *ARITHMETIC},
        "smoke": {OURS, *TEXT},
        "package": {OURS},
    }
    return {stage: tuple(sorted(wanted)) for stage, wanted in names.items()}


def keyed_tools(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """Those of `stage_tools` whose versions are in the stage's key.

    An artifact that is found by its key was made by the versions that are installed now, so these
    count for reused artifacts, too.
    """
    names = {"verify": LOGITS, "smoke": TEXT, "package": (OURS,)}
    kept = {stage: set(names.get(stage, ())) for stage in stage_tools(recipe)}
    return {
        stage: tuple(name for name in tools if name in kept[stage])
        for stage, tools in stage_tools(recipe).items()
    }


BUILT_STAGES = frozenset({"build", "package"})
"""Stages that the engine backend's own tools decide, too; a smoke test that executes the engine."""


def installed(names: Iterable[str]) -> dict[str, str]:
    """Versions of the packages that are installed, by name."""
    found = {}
    for name in sorted(set(names)):
        try:
            found[name] = __version__ if name == OURS else version(name)
        except PackageNotFoundError:
            continue
    return found


def installed_build_tools(backends: Iterable[str]) -> dict[str, dict[str, str]]:
    """Engine backend -> its tools that are installed; a backend that has none here is absent."""
    found = {name: find_engine(name).tool_versions() for name in sorted(set(backends))}
    return {name: dict(sorted(tools.items())) for name, tools in found.items() if tools}


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
