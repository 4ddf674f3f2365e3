"""The runner: for each stage, reuse the artifact of its key, or make and publish it."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.artifact import Artifact, describe
from pipeline.errors import MachineError, PlanRefused, Problem, RecipeError, ResourceError
from pipeline.hardware import free_disk_bytes
from pipeline.plan import SourcePlan, with_digests
from pipeline.progress import Progress
from pipeline.pytorch_plan import PytorchPlan
from pipeline.stages import PYTORCH_STAGES, STAGES
from pipeline.stages.stage import AnyStage
from pipeline.store import Store

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
    return problems + _resource_problems(plan, working, store)


def _resource_problems(plan: SourcePlan, working: Sequence[str], store: Store) -> list[Problem]:
    """Disk for all stages that work together, memory for each alone."""
    problems = []
    free_bytes = free_disk_bytes(store.root)
    needed_bytes = sum(plan.needs[name].disk_bytes for name in working)
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
    plan: SourcePlan, store: Store, until: str, observer: Observer, *, lock_timeout_s: float
) -> list[StageResult]:
    """Run the stages in order. Raises PlanRefused before any work where the plan has problems."""
    problems = find_problems(plan, preview(plan, store, until), store)
    if problems:
        raise PlanRefused(problems)
    plan = with_digests(plan)
    artifacts: dict[str, Artifact] = {}
    results = []
    for stage in stages_until(plan, until):
        keys = {name: artifact.key for name, artifact in artifacts.items()}
        key = stage.key(plan, keys)
        assert key is not None, f"stage {stage.name} has no key although all its inputs exist"
        inputs = {name: artifacts[name] for name in stage.inputs}
        with _clear_os_errors(stage.name, store.root):
            result = _run_stage(stage, key, plan, inputs, store, observer, lock_timeout_s)
        artifacts[stage.name] = result.artifact
        results.append(result)
        observer.stage_finished(result)
    return results


def _run_stage(
    stage: AnyStage,
    key: str,
    plan: SourcePlan,
    inputs: Mapping[str, Artifact],
    store: Store,
    observer: Observer,
    lock_timeout_s: float,
) -> StageResult:
    """Reuse, or hold the key's lock and make. What another process made meanwhile is reused."""
    found = store.find(stage.name, key)
    if found is not None:
        return StageResult(stage, found, reused=True, seconds=0.0)
    progress = observer.stage_started(stage, key)
    with store.exclusive(stage.name, key, timeout_s=lock_timeout_s, on_wait=progress.note):
        found = store.find(stage.name, key)
        if found is not None:
            return StageResult(stage, found, reused=True, seconds=0.0)
        started = time.monotonic()
        artifact = _make(stage, key, plan, inputs, store, progress)
        return StageResult(stage, artifact, reused=False, seconds=time.monotonic() - started)


def _make(
    stage: AnyStage,
    key: str,
    plan: SourcePlan,
    inputs: Mapping[str, Artifact],
    store: Store,
    progress: Progress,
) -> Artifact:
    """Run the stage in a working folder, describe what it wrote, publish it."""

    with store.working_folder(stage.name, key) as folder:
        facts = stage.run(plan, inputs, folder, progress)
        input_keys = {name: artifact.key for name, artifact in inputs.items()}
        return store.publish(folder, describe(folder, stage.name, key, input_keys, facts))


@contextmanager
def _clear_os_errors(stage: str, root: Path) -> Iterator[None]:
    """Turn what the operating system refuses into an error that says so."""
    try:
        yield
    except MemoryError:
        raise ResourceError(
            f"stage `{stage}` ran out of memory",
            hint="run it on a machine with more memory; earlier artifacts are kept",
        ) from None
    except OSError as error:
        where = f"`{error.filename}`: " if error.filename else ""
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ResourceError(
                f"stage `{stage}` ran out of disk space in `{root}`",
                hint="free some space, or name a store on a larger disk by `--store`",
            ) from None
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise MachineError(
                f"stage `{stage}` was refused by the file system: {where}{error.strerror}",
                hint="check the permissions, or name another store by `--store`",
            ) from None
        raise
