"""Holding a recipe and its plan to a lock: `--frozen` refuses what differs, without it it is told.

Without `--frozen` a lock still decides the commit of a branch or tag, as lock files of package
managers do; what else differs is told in a line, and nothing is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pipeline.artifact import Artifact, canonical_json
from pipeline.checkpoint.strict_json import listed, printable
from pipeline.errors import PlanRefused, Problem, RecipeError, VerificationError
from pipeline.lock.asked import asked_of, pin_of
from pipeline.lock.document import Lock, asked_text, lock_path
from pipeline.lock.reading import find_lock
from pipeline.lock.tools import is_built, stage_tools, tools_of
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
        locked, told = locked_tools(plan, held.lock), (*plan.problems, *problems)
        return replace(plan, problems=told, locked_tools=locked), held.notes
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


def locked_tools(plan: SourcePlan, lock: Lock) -> dict[str, dict[str, str]]:
    """Stage -> its tools in the versions that are locked; what is not locked is absent."""
    found = {}
    for stage, wanted in stage_tools(plan.recipe).items():
        found[stage] = {tool: lock.tools[tool] for tool in wanted if tool in lock.tools}
        if isinstance(plan, Plan) and is_built(plan, stage):
            found[stage].update(lock.build_tools.get(plan.engine.name, {}))
    return found


def tool_problems(plan: SourcePlan, lock: Lock, name: str) -> list[Problem]:
    """A problem for each stage whose installed tools are not the locked ones.

    `name` is the lock file's. Where the engine backend cannot build here, the plan has that problem
    already, and its tools are not compared.
    """
    problems = []
    named = stage_tools(plan.recipe)
    is_here = not isinstance(plan, Plan) or plan.engine.why_unavailable(plan.hardware) is None
    for stage, locked in locked_tools(plan, lock).items():
        facts = [
            fact
            for tool, fact in _differences(locked, tools_of(plan, stage), "found")
            if is_here or tool in named[stage]
        ]
        if facts:
            problems.append(_problem(stage, facts, name))
    return problems


def _differences(
    locked: Mapping[str, str], found: Mapping[str, str], word: str
) -> Iterator[tuple[str, str]]:
    """Tools whose versions differ, each with what to say of it."""
    for name in sorted(locked.keys() | found.keys()):
        if locked.get(name) != found.get(name):
            before, after = (each.get(name, "nothing") for each in (locked, found))
            yield name, f"`{printable(name)}`: locked {before}, {word} {printable(after)}"


def _problem(stage: str, facts: list[str], name: str) -> Problem:
    return Problem(
        stage,
        f"the tools are not those of `{name}`",
        hint="install the locked versions, or accept these: run `trtllm-pack lock --update --only "
        "tools` here and review what it changes",
        kind=VerificationError,
        facts=tuple(facts),
    )


def check_reused(plan: SourcePlan, artifacts: Iterable[Artifact]) -> None:
    """Hold artifacts that a run would reuse against a frozen lock; any will do without one.

    A download says itself what was fetched, and every artifact by which tools it, and what it is
    made of, was made. Raises VerificationError with every file that differs, PlanRefused for tools.
    """
    if plan.pin is None or plan.locked_tools is None:
        return
    problems = []
    for artifact in artifacts:
        if artifact.manifest.stage == "download":
            files = artifact.facts["files"]
            plan.pin.check_fetched(plan.source.listing.where, files)
        facts = listed(list(_made_otherwise(artifact, plan.locked_tools)))
        if facts:
            problems.append(_reuse_problem(plan, artifact, facts))
    if problems:
        raise PlanRefused(problems)


def _made_otherwise(artifact: Artifact, locked: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """How the tools that made an artifact, and what it is made of, differ from the locked ones."""
    stage, made_by = artifact.manifest.stage, artifact.manifest.made_by
    if any(locked.get(name) and name not in made_by for name in (stage, *artifact.manifest.inputs)):
        yield "it does not say by which: an older version of trtllm-pack has made it"
    where: dict[str, list[str]] = {}
    for name in sorted(made_by):
        for _, fact in _differences(locked.get(name, {}), made_by[name], "made by"):
            where.setdefault(fact, []).append(name)
    for fact, names in where.items():
        told = ", ".join(f"`{printable(name)}`" for name in names)
        yield fact if names == [stage] else f"{fact} (in {told})"


def _reuse_problem(plan: SourcePlan, artifact: Artifact, facts: list[str]) -> Problem:
    """Made by the tools that are installed, it would be made no better by making it again."""
    assert plan.pin is not None
    name, stage = plan.pin.origin, artifact.manifest.stage
    if artifact.manifest.made_by.get(stage) == tools_of(plan, stage):
        return _problem(stage, facts, name)
    return Problem(
        stage,
        f"the artifact in the store is not made by the tools of `{name}`",
        hint=f"delete `{artifact.path}` and run again, or name another store by `--store`",
        kind=VerificationError,
        facts=tuple(facts),
    )


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
