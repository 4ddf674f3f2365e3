"""Holding a recipe and its plan to a lock: `--frozen` refuses what differs, without it it is told.

Without `--frozen` a lock still decides the commit of a branch or tag, as lock files of package
managers do; what else differs is told in a line, and nothing is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pipeline.artifact import Artifact, canonical_json
from pipeline.errors import PlanRefused, Problem, RecipeError, VerificationError
from pipeline.lock.asked import asked_of, pin_of
from pipeline.lock.document import Lock, asked_text, lock_path
from pipeline.lock.reading import find_lock
from pipeline.lock.tools import BUILT_STAGES, installed, keyed_tools, stage_tools
from pipeline.plan import Plan, SourcePlan
from pipeline.recipe.load import LoadedRecipe
from pipeline.sources import Pin

AnyPlan = TypeVar("AnyPlan", bound=SourcePlan)


@dataclass(frozen=True, slots=True)
class Held:
    """What a lock says to one recipe. `lock` is None where there is none, `pin` also where the
    lock does not know the recipe's source; `notes` are lines for the user."""

    name: str
    lock: Lock | None
    pin: Pin | None
    notes: tuple[str, ...] = ()


def hold(loaded: LoadedRecipe, *, frozen: bool) -> Held:
    """Read the lock beside a recipe, if any, and find its source there.

    Raises RecipeError where `frozen` and there is no lock, or the lock is of another source; and
    as `find_lock` does, frozen or not: a lock that cannot be read is never passed by.
    """
    path = lock_path(loaded.path)
    file = find_lock(loaded.path)
    if file is None:
        if frozen:
            raise _no_lock(loaded.path, path)
        return Held(path.name, None, None)
    asked = asked_of(loaded)
    found = file.lock.find(asked)
    if found is not None:
        pin = pin_of(found, path.name, is_frozen=frozen)
        return Held(path.name, file.lock, pin)
    if frozen:
        raise RecipeError(
            f"the recipe asks for a source that `{path.name}` does not lock",
            facts=[
                f"asked: `{asked_text(asked)}`",
                *(f"locked: `{asked_text(source.asked)}`" for source in file.lock.sources),
            ],
            hint=f"run `trtllm-pack lock {loaded.path}`, and review what it changes; what `--set` "
            "asks for is in no lock",
        )
    note = f"`{path.name}` does not lock the source that is asked for, and is not used"
    return Held(path.name, file.lock, None, (note,))


def _no_lock(recipe: Path, path: Path) -> RecipeError:
    return RecipeError(
        f"`{recipe}` has no lock: `{path}` does not exist",
        hint=f"run `trtllm-pack lock {recipe}`, and keep what it writes beside the recipe",
    )


def apply(plan: AnyPlan, held: Held) -> tuple[AnyPlan, tuple[str, ...]]:
    """The plan with the problems that a frozen lock adds; notes where it is not frozen.

    A problem belongs to the stage whose tools differ, so it counts only where that stage would
    really work.
    """
    if held.lock is None or held.pin is None:
        return plan, held.notes
    problems = tool_problems(plan, held.lock, held.name)
    if held.pin.is_frozen:
        return replace(plan, problems=(*plan.problems, *problems)), held.notes
    return plan, (*held.notes, *_notes(plan, held, problems))


def _notes(plan: SourcePlan, held: Held, problems: list[Problem]) -> list[str]:
    """Lines about a lock that is not enforced: its commit, and whatever differs."""
    assert held.pin is not None
    notes = []
    if held.pin.commit is not None and plan.recipe.source.revision != held.pin.commit:
        listing = plan.source.listing
        notes.append(
            f"`{listing.where}` is at commit {held.pin.commit[:12]}, as `{held.name}` says; "
            "`trtllm-pack lock --update` looks for a newer one"
        )
    differences = held.pin.differences(plan.source.listing)
    if differences:
        more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
        notes.append(f"the source differs from `{held.name}`: {differences[0]}{more}")
    tools = sorted({fact for problem in problems for fact in problem.facts})
    if tools:
        notes.append(f"tools differ from `{held.name}`: {'; '.join(tools)}")
    return notes


def tool_problems(plan: SourcePlan, lock: Lock, name: str, *, keyed: bool = False) -> list[Problem]:
    """A problem for each stage whose tools are not the locked ones.

    `name` is the lock file's; with `keyed` only tools are compared whose versions are in the
    stage's key. Where the engine backend cannot build here, the plan has that problem already, and
    its tools are not compared.
    """
    problems = []
    stages = keyed_tools(plan.recipe) if keyed else stage_tools(plan.recipe)
    for stage, wanted in stages.items():
        locked = {tool: lock.tools[tool] for tool in wanted if tool in lock.tools}
        facts = _differences(locked, installed(wanted))
        if isinstance(plan, Plan) and _is_built(plan, stage):
            backend = plan.engine.name
            facts += _differences(lock.build_tools.get(backend, {}), plan.build_tools)
        if facts:
            problems.append(_problem(stage, sorted(set(facts)), name))
    return problems


def _is_built(plan: Plan, stage: str) -> bool:
    if plan.engine.why_unavailable() is not None:
        return False
    return stage in BUILT_STAGES or (stage == "smoke" and plan.executor == "engine")


def _differences(locked: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    return [
        f"`{name}`: locked {locked.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
        for name in sorted(locked.keys() | found.keys())
        if locked.get(name) != found.get(name)
    ]


def _problem(stage: str, facts: list[str], name: str) -> Problem:
    return Problem(
        stage,
        f"the tools are not those of `{name}`",
        hint="install the locked versions, or accept these: run `trtllm-pack lock --update` here "
        "and review what it changes",
        kind=VerificationError,
        facts=tuple(facts),
    )


def check_reused(plan: SourcePlan, held: Held, reused: Mapping[str, Artifact]) -> None:
    """Hold artifacts that a frozen run would reuse, by stage, against the lock.

    A download says itself what was fetched; other artifacts were made by the tools in their key.
    Raises VerificationError with every file that differs, PlanRefused for other tools.
    """
    assert held.lock is not None
    assert held.pin is not None
    if "download" in reused:
        files = reused["download"].facts["files"]
        held.pin.check_fetched(plan.source.listing.where, files)
    problems = tool_problems(plan, held.lock, held.name, keyed=True)
    found = [problem for problem in problems if problem.stage in reused]
    if found:
        raise PlanRefused(found)


def check_coverage(lock: Lock, recipes: tuple[LoadedRecipe, ...], name: str) -> None:
    """Raise RecipeError where the sources of a recipe and its variants are not the locked ones."""
    asked = [asked_of(loaded) for loaded in recipes]
    wanted = {canonical_json(each) for each in asked}
    new = {asked_text(each) for each in asked if lock.find(each) is None}
    old = {asked_text(source.asked) for source in lock.sources if source.key not in wanted}
    facts = [f"asked, not locked: `{text}`" for text in sorted(new)]
    facts += [f"locked, not asked: `{text}`" for text in sorted(old)]
    if facts:
        raise RecipeError(
            f"`{name}` does not fit `{recipes[0].path}`",
            facts=facts,
            hint=f"run `trtllm-pack lock {recipes[0].path}`, and review what it changes",
        )
