"""The runner, on toy stages: keys, reuse, refusal, publishing, faults of the file system."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline import run as runner
from pipeline.artifact import Json
from pipeline.errors import (
    MachineError,
    PlanRefused,
    Problem,
    ResourceError,
    VerificationError,
)
from pipeline.hardware import Hardware
from pipeline.plan import Need, Plan
from pipeline.progress import Progress, Silent
from pipeline.recipe.schema import Recipe
from pipeline.run import StageResult, find_problems, preview, run
from pipeline.stages.stage import Inputs, Stage
from pipeline.store import Store
from pipeline.store.owners import read_owner

Work = Callable[[Path], None]


class Watching:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.finished: list[tuple[str, bool]] = []

    def stage_started(self, stage: Stage, key: str) -> Progress:
        self.started.append(stage.name)
        return Silent()

    def stage_finished(self, result: StageResult) -> None:
        self.finished.append((result.stage.name, result.reused))


def toy(name: str, inputs: tuple[str, ...], work: Work | None = None) -> Stage:
    def run_stage(
        plan: Plan, given: Inputs, out_dir: Path, progress: Progress
    ) -> Mapping[str, Json]:
        assert set(given) == set(inputs)
        (out_dir / "out.txt").write_text(name)
        if work is not None:
            work(out_dir)
        return {"made": name}

    def settings(plan: Plan) -> Json:
        return cast(Any, plan).settings[name]

    return Stage(name, 1, inputs, settings, run_stage, lambda facts: str(facts["made"]))


def toy_plan(**settings: Json) -> Plan:
    names = ("one", "two", "three")
    plan = SimpleNamespace(
        recipe=Recipe.model_validate({"name": "toy", "source": {"path": "source"}}),
        settings={name: settings.get(name, {}) for name in names},
        problems=(),
        needs={name: Need() for name in names},
        hardware=Hardware(2, 10**9, ()),
        pin=None,
    )
    return cast(Plan, plan)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(work: Work | None = None) -> None:
        toys = (toy("one", ()), toy("two", ("one",), work), toy("three", ("one", "two")))
        monkeypatch.setattr(runner, "STAGES", toys)
        monkeypatch.setattr(runner, "with_digests", lambda plan: plan)

    use()
    return use


def names_and_reuse(results: list[StageResult]) -> list[tuple[str, bool]]:
    return [(result.stage.name, result.reused) for result in results]


def go(plan: Plan, store: Store, until: str = "three") -> list[StageResult]:
    return run(plan, store, until, Watching(), lock_timeout_s=5)


def test_a_second_run_reuses_everything(store: Store, stages: Callable[..., None]) -> None:
    first, second = go(toy_plan(), store), go(toy_plan(), store)
    assert names_and_reuse(first) == [("one", False), ("two", False), ("three", False)]
    assert names_and_reuse(second) == [("one", True), ("two", True), ("three", True)]
    assert [r.artifact for r in first] == [r.artifact for r in second]
    assert first[2].artifact.manifest.inputs == {
        "one": first[0].artifact.key,
        "two": first[1].artifact.key,
    }


def test_a_changed_setting_reruns_that_stage_and_those_after(
    store: Store, stages: Callable[..., None]
) -> None:
    go(toy_plan(), store)
    changed = go(toy_plan(two={"dtype": "float16"}), store)
    assert names_and_reuse(changed) == [("one", True), ("two", False), ("three", False)]


def test_until_stops_there(store: Store, stages: Callable[..., None]) -> None:
    assert names_and_reuse(go(toy_plan(), store, until="two")) == [("one", False), ("two", False)]


def test_preview_does_no_work(store: Store, stages: Callable[..., None]) -> None:
    states = preview(toy_plan(), store, "three")
    assert [state.artifact for state in states] == [None, None, None]
    assert all(state.key for state in states)
    assert not store.root.exists()
    go(toy_plan(), store)
    assert all(state.artifact for state in preview(toy_plan(), store, "three"))


def test_unknown_settings_leave_keys_unknown(store: Store, stages: Callable[..., None]) -> None:
    assert [s.key for s in preview(toy_plan(one=None), store, "three")] == [None, None, None]


def test_problems_refuse_before_any_work(store: Store, stages: Callable[..., None]) -> None:
    plan = toy_plan()
    cast(Any, plan).problems = (Problem("two", "cannot", kind=MachineError),)
    with pytest.raises(PlanRefused) as caught:
        go(plan, store)
    assert caught.value.exit_code == 4
    assert not (store.root / "artifacts").exists()
    assert len(go(plan, store, until="one")) == 1


def test_a_reused_stage_has_no_problems(store: Store, stages: Callable[..., None]) -> None:
    go(toy_plan(), store, until="two")
    plan = toy_plan()
    cast(Any, plan).problems = (Problem("two", "no builder here", kind=MachineError),)
    assert names_and_reuse(go(plan, store)) == [("one", True), ("two", True), ("three", False)]


def test_too_little_disk_and_memory_are_problems(store: Store, stages: Callable[..., None]) -> None:
    plan = toy_plan()
    cast(Any, plan).needs["two"] = Need(disk_bytes=10**18, memory_bytes=10**12)
    problems = find_problems(plan, preview(plan, store, "three"), store)
    assert [problem.kind for problem in problems] == [ResourceError, ResourceError]
    assert "disk" in str(problems[0].hint)
    assert problems[1].stage == "two"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, ResourceError),
        (errno.EDQUOT, ResourceError),
        (errno.EROFS, MachineError),
        (errno.EACCES, MachineError),
    ],
)
def test_the_file_system_refuses(
    store: Store, stages: Callable[..., None], code: int, kind: type[Exception]
) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(code, "refused", str(folder / "out.txt"))

    stages(refuse)
    with pytest.raises(kind) as caught:
        go(toy_plan(), store)
    assert cast(Any, caught.value).hint
    assert not list((store.root / "work").iterdir())
    assert not (store.root / "artifacts" / "two").exists()
    stages()
    assert names_and_reuse(go(toy_plan(), store)) == [
        ("one", True),
        ("two", False),
        ("three", False),
    ]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interrupt_leaves_nothing_half_written(
    store: Store, stages: Callable[..., None], interrupt: type[BaseException]
) -> None:
    def stop(folder: Path) -> None:
        raise interrupt

    stages(stop)
    with pytest.raises((interrupt, ResourceError)):
        go(toy_plan(), store)
    assert not list((store.root / "work").iterdir())
    assert not (store.root / "artifacts" / "two").exists()


def test_a_changed_byte_of_an_input_ends_the_run(store: Store, stages: Callable[..., None]) -> None:
    (one,) = go(toy_plan(), store, until="one")
    path = one.artifact.path / "out.txt"
    path.chmod(0o644)
    path.write_text("ONE")
    with pytest.raises(VerificationError, match="damaged") as caught:
        go(toy_plan(), store)
    assert "`out.txt` is changed" in caught.value.facts[0]
    assert not (store.root / "artifacts" / "two").exists()
    assert not list((store.root / "work").iterdir())


def test_a_changed_byte_is_not_handed_out(store: Store, stages: Callable[..., None]) -> None:
    *_, last = go(toy_plan(), store)
    changed = last.artifact.path / "out.txt"
    changed.chmod(0o644)
    changed.write_text("thrEe")
    os.utime(changed, (1, 1))  # whatever the clock counts in
    with pytest.raises(VerificationError, match="is damaged"):
        go(toy_plan(), store)
    changed.write_text("three")
    os.utime(changed, (2, 2))
    watching = Watching()
    results = run(toy_plan(), store, "three", watching, lock_timeout_s=5)
    assert names_and_reuse(results) == [("one", True), ("two", True), ("three", True)]
    assert watching.started == ["three"]  # read whole, once
    watching = Watching()
    run(toy_plan(), store, "three", watching, lock_timeout_s=5)
    assert not watching.started


def test_a_run_holds_all_that_it_needs(store: Store, stages: Callable[..., None]) -> None:
    seen: list[tuple[str, ...]] = []

    def look(folder: Path) -> None:
        (file,) = (store.root / "sessions").iterdir()
        owner = read_owner(file)
        assert owner is not None
        seen.append(owner.holds)

    stages(look)
    results = go(toy_plan(), store)
    keys = {f"{r.stage.name}/{r.artifact.key}" for r in results}
    assert seen == [tuple(sorted(keys))]
    assert all((store.root / "uses" / key).is_file() for key in keys)


def test_temporary_files_of_a_stage_lie_in_the_store(
    store: Store, stages: Callable[..., None]
) -> None:
    seen: list[Path] = []
    stages(lambda folder: seen.append(Path(tempfile.mkdtemp())))
    go(toy_plan(), store)
    assert seen[0].is_relative_to(store.root / "work")
    assert not list((store.root / "work").iterdir())


def test_what_is_done_with_the_artifacts_is_done_while_they_are_held(
    store: Store, stages: Callable[..., None]
) -> None:
    seen: list[tuple[str, ...]] = []

    def use(results: list[StageResult]) -> None:
        (file,) = (store.root / "sessions").iterdir()
        owner = read_owner(file)
        assert owner is not None
        assert {f"{r.stage.name}/{r.artifact.key}" for r in results} == set(owner.holds)
        seen.append(owner.holds)

    run(toy_plan(), store, "three", Watching(), lock_timeout_s=5, use=use)
    assert len(seen) == 1


def test_what_another_process_made_meanwhile_is_not_made_again(
    store: Store, stages: Callable[..., None]
) -> None:
    class Late(Watching):
        """While this run comes to the lock, another one makes the same."""

        def stage_started(self, stage: Stage, key: str) -> Progress:
            if not self.started:
                go(toy_plan(), store, until="one")
            return super().stage_started(stage, key)

    (result,) = run(toy_plan(), store, "one", Late(), lock_timeout_s=5)
    assert result.reused


def test_a_secret_is_not_published(
    store: Store, stages: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PASSWORD", "correct horse 7 battery")
    monkeypatch.setenv("CACHE_KEY", "bfloat16")
    text = "login: correct horse 7 battery, bfloat16"
    stages(lambda folder: (folder / "log").write_text(text))
    with pytest.raises(VerificationError, match="stage `two` would publish a secret") as caught:
        go(toy_plan(), store)
    assert caught.value.facts == ("`log` holds the value of `REGISTRY_PASSWORD`",)
    assert not (store.root / "artifacts" / "two").exists()
