"""The runner: for each stage, reuse the artifact of its key, or make and publish it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pipeline.artifact import Artifact, check_digests, describe
from pipeline.errors import (
    PlanRefused,
    Problem,
    RecipeError,
    ResourceError,
    VerificationError,
)
from pipeline.hardware import free_disk_bytes
from pipeline.lock.frozen import check_reused
from pipeline.lock.tools import tools_of
from pipeline.plan import SourcePlan, with_digests
from pipeline.progress import Progress
from pipeline.pytorch_plan import PytorchPlan
from pipeline.redaction import find_known_secrets
from pipeline.stages import PYTORCH_STAGES, STAGES
from pipeline.stages.stage import AnyStage
from pipeline.store import Session, Store
from pipeline.system import interrupts
from pipeline.system.refusals import explain

DISK_MARGIN_BYTES = 64 << 20
"""Left free beyond what the stages need: manifests, logs, the file system's own."""


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage before a run: its key (None while unknown) and the artifact that would be reused."""

    stage: AnyStage
    key: str | None
    artifact: Artifact | None


@dataclass(frozen=True, slots=True)
class StageResult:
    """A stage after a run. `seconds` is 0 for a reused artifact."""

    stage: AnyStage
    artifact: Artifact
    reused: bool
    seconds: float


class Observer(Protocol):
    """Who watches a run: the console."""

    def stage_started(self, stage: AnyStage, key: str) -> Progress:
        """A stage begins to work; what it says goes to the returned progress."""

    def stage_finished(self, result: StageResult) -> None:
        """A stage has its artifact, made or reused."""


def stages_until(plan: SourcePlan, last: str) -> tuple[AnyStage, ...]:
    """The stages of a plan up to and including `last`, in order.

    Raises RecipeError where the plan has no such stage: a package without an engine.
    """
    stages: tuple[AnyStage, ...] = PYTORCH_STAGES if isinstance(plan, PytorchPlan) else STAGES
    names = [stage.name for stage in stages]
    if last not in names:
        raise RecipeError(
            "`package.kind` is `pytorch`: such a package has no engine, so there is nothing to "
            "convert, build or smoke-test",
            hint="run `trtllm-pack package`, or set `package.kind: engine`",
        )
    return stages[: names.index(last) + 1]


def problems_until(problems: Sequence[Problem], last: str) -> list[Problem]:
    """Those of the stages up to and including `last`; all where only later ones have any."""
    names = [stage.name for stage in STAGES]
    concerned = names[: names.index(last) + 1]
    return [each for each in problems if each.stage in concerned] or list(problems)


def preview(plan: SourcePlan, store: Store, until: str) -> list[StageState]:
    """Keys and reusable artifacts of the stages, without any work."""
    keys: dict[str, str] = {}
    states = []
    for stage in stages_until(plan, until):
        key = stage.key(plan, keys)
        artifact = None
        if key is not None:
            keys[stage.name] = key
            artifact = store.find(stage.name, key)
        states.append(StageState(stage, key, artifact))
    return states


def find_problems(plan: SourcePlan, states: Sequence[StageState], store: Store) -> list[Problem]:
    """The problems of the stages that would really work: a reused artifact needs nothing."""
    working = [state.stage.name for state in states if state.artifact is None]
    problems = [problem for problem in plan.problems if problem.stage in working]
    begun_bytes = sum(
        store.begun_bytes(state.stage.name, state.key)
        for state in states
        if state.artifact is None and state.stage.resumable and state.key is not None
    )
    return problems + _resource_problems(plan, working, store, begun_bytes)


def _resource_problems(
    plan: SourcePlan, working: Sequence[str], store: Store, begun_bytes: int
) -> list[Problem]:
    """Disk for all stages that work together, memory for each alone.

    What earlier runs have begun is on the disk already.
    """
    problems = []
    free_bytes = free_disk_bytes(store.root)
    needed_bytes = max(0, sum(plan.needs[name].disk_bytes for name in working) - begun_bytes)
    if needed_bytes and needed_bytes + DISK_MARGIN_BYTES > free_bytes:
        problems.append(
            Problem(
                working[0],
                f"`{store.root}` has {free_bytes:,} bytes free, but the stages that have work to "
                f"do need {needed_bytes:,}, and {DISK_MARGIN_BYTES:,} to spare",
                hint="free some space, or name a store on a larger disk by `--store`",
                kind=ResourceError,
            )
        )
    available = plan.hardware.available_memory_bytes
    for name in working:
        memory_bytes = plan.needs[name].memory_bytes
        if memory_bytes > available:
            problems.append(
                Problem(
                    name,
                    f"stage `{name}` needs about {memory_bytes:,} bytes of memory, but "
                    f"{available:,} are available",
                    hint=plan.needs[name].less_memory
                    or "run this stage on a machine with more memory; earlier artifacts are kept",
                    kind=ResourceError,
                )
            )
    return problems


def run(
    plan: SourcePlan,
    store: Store,
    until: str,
    observer: Observer,
    *,
    lock_timeout_s: float,
    use: Callable[[list[StageResult]], None] = lambda _: None,
) -> list[StageResult]:
    """Run the stages in order. Raises PlanRefused before any work where the plan has problems.

    `use` is what is done with the artifacts while no other process deletes them.
    """
    _refuse_problems(plan, store, until)
    plan = with_digests(plan)
    with store.session(plan.recipe.name) as session:
        results = _Run(plan, session, observer, lock_timeout_s).stages(until)
        use(results)
    return results


def _refuse_problems(plan: SourcePlan, store: Store, until: str) -> None:
    problems = find_problems(plan, preview(plan, store, until), store)
    if problems:
        raise PlanRefused(problems)


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: a sound plan with all digests, a session of the store, who watches."""

    plan: SourcePlan
    session: Session
    observer: Observer
    lock_timeout_s: float

    def stages(self, until: str) -> list[StageResult]:
        """All stages up to and including `until`. Nothing that they need is deleted meanwhile."""
        stages = stages_until(self.plan, until)
        keys: dict[str, str] = {}
        for stage in stages:
            key = stage.key(self.plan, keys)
            assert key is not None, f"stage {stage.name} has no key although all its inputs have"
            keys[stage.name] = key
        self.session.hold([f"{name}/{key}" for name, key in keys.items()])
        # Once more: until now another process was free to delete what a stage was to reuse.
        _refuse_problems(self.plan, self.session.store, until)
        artifacts: dict[str, Artifact] = {}
        results = []
        for stage in stages:
            interrupts.check()
            inputs = {name: artifacts[name] for name in stage.inputs}
            with _in_words(stage.name, self.session.store.root):
                result = self._stage(stage, keys[stage.name], inputs)
            artifacts[stage.name] = result.artifact
            self.session.store.note_use(result.artifact)
            results.append(result)
            self.observer.stage_finished(result)
        return results

    def _stage(self, stage: AnyStage, key: str, inputs: Mapping[str, Artifact]) -> StageResult:
        """Reuse, or hold the key's lock and make. What another process made meanwhile is reused."""
        store = self.session.store
        found = store.find(stage.name, key)
        if found is not None:
            return self._reused(stage, found)
        progress = self.observer.stage_started(stage, key)
        timeout_s = self.lock_timeout_s
        with self.session.exclusive(stage.name, key, timeout_s=timeout_s, on_wait=progress.note):
            found = store.find(stage.name, key)
            if found is not None:
                return self._reused(stage, found)
            started = time.monotonic()
            artifact = self._make(stage, key, inputs, progress)
            return StageResult(stage, artifact, reused=False, seconds=time.monotonic() - started)

    def _reused(self, stage: AnyStage, artifact: Artifact) -> StageResult:
        """What is there already, if it is as it was published, and what a frozen lock says."""
        check_reused(self.plan, [artifact])
        store = self.session.store
        store.prove(artifact, lambda: self.observer.stage_started(stage, artifact.key))
        return StageResult(stage, artifact, reused=True, seconds=0.0)

    def _make(
        self, stage: AnyStage, key: str, inputs: Mapping[str, Artifact], progress: Progress
    ) -> Artifact:
        """Run the stage in a working folder, describe what it wrote, publish it.

        Inputs are read whole before, once by a process: a byte that changed in the store since it
        was published would be in all that is made of it, and nothing later would tell.
        """
        for artifact in inputs.values():
            check_digests(artifact)
        session = self.session
        working = session.working_folder(stage.name, key, resumable=stage.resumable)
        with session.scratch_folder(), working as folder:
            facts = stage.run(self.plan, inputs, folder, progress)
            interrupts.check()
            _refuse_secrets(stage.name, folder)
            input_keys = {name: artifact.key for name, artifact in inputs.items()}
            manifest = describe(folder, stage.name, key, input_keys, facts)
            made_by = _made_by(self.plan, stage, inputs)
            return session.publish(folder, replace(manifest, made_by=made_by))


def _made_by(
    plan: SourcePlan, stage: AnyStage, inputs: Mapping[str, Artifact]
) -> dict[str, Mapping[str, str]]:
    """The tools of a stage that has worked, and those that its inputs were made by."""
    told = {name: artifact.manifest.made_by.get(name) for name, artifact in inputs.items()}
    told[stage.name] = tools_of(plan, stage.name)
    return {name: tools for name, tools in told.items() if tools}


def _refuse_secrets(stage: str, folder: Path) -> None:
    """An artifact is handed on: a token of whoever made it must not be in it."""
    leaks = find_known_secrets(folder)
    if leaks:
        raise VerificationError(
            f"stage `{stage}` would publish a secret",
            facts=leaks,
            hint="remove it from the source or the recipe; if it is none, rename the variable",
        )


@contextmanager
def _in_words(stage: str, root: Path) -> Iterator[None]:
    """Turn what the operating system refuses into an error that says so."""
    try:
        yield
    except Exception as error:
        known = explain(error, f"stage `{stage}`", root)
        if known is None:
            raise
        raise known from None
