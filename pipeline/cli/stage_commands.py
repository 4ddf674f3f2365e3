"""The commands that make and run a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pipeline.cli.answering import Mode, answering
from pipeline.cli.carry_out import Wishes, carry_out, limit_bytes
from pipeline.cli.options import (
    DebugOpt,
    ExplainOpt,
    FrozenOpt,
    JsonOpt,
    LockTimeoutOpt,
    MaxMemoryOpt,
    OfflineOpt,
    OutOpt,
    QuietOpt,
    RecipeArg,
    SetOpt,
    SharedOpt,
    StoreLimitOpt,
    StoreOpt,
    VariantOpt,
    store_folder,
)
from pipeline.errors import PlanRefused

if TYPE_CHECKING:
    from pipeline.plan import Plan
    from pipeline.pytorch_plan import PytorchPlan
    from pipeline.recipe.load import LoadedRecipe
    from pipeline.sources import Pin
    from pipeline.store import Store

STAGE_HELP = {
    "run": ("package", "Run all stages: download, convert, verify, build, smoke, package."),
    "download": ("download", "Fetch and check the source checkpoint."),
    "convert": ("verify", "Convert to a TensorRT-LLM checkpoint, and verify the round trip."),
    "build": ("build", "Build the engine and prove its attention."),
    "smoke": ("smoke", "Generate text with the engine and check the expectations."),
    "package": ("package", "Make the release; the same as `run`."),
}
"""Command -> last stage that it runs, help. `--out` places the artifact of the command's stage."""

HASHED_BY_PLAN_BYTES = 1 << 30
"""A local source up to this size is hashed by `plan`, problems aside, so that keys are shown."""


def open_store(path: Path | None, shared: list[Path] | None = None) -> Store:
    """The store of a command, and the stores of others that it reads."""
    from pipeline.store import Store

    return Store(store_folder(path), tuple(folder.absolute() for folder in shared or ()))


def resolve_recipe(
    recipe: Path,
    variant: str | None,
    overrides: list[str] | None,
    store: Store,
    offline: bool,
    max_memory_mb: int | None = None,
    until: str = "package",
    *,
    frozen: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Plan | PytorchPlan:
    """The plan. Where there is none, only the problems of stages up to `until` are told.

    `frozen` holds it to the recipe's lock file. Otherwise a lock decides the commit of a branch,
    and `note` is told so, and of what differs.
    """
    from pipeline.lock.frozen import apply, check_reused, hold
    from pipeline.recipe.load import load_recipe
    from pipeline.run import preview

    loaded = load_recipe(recipe, variant=variant, overrides=tuple(overrides or ()))
    held = hold(loaded, frozen=frozen)
    plan, notes = apply(_resolve(loaded, store, offline, max_memory_mb, until, held.pin), held)
    for text in notes:
        note(text)
    if frozen:
        states = preview(plan, store, until)
        reused = {s.stage.name: s.artifact for s in states if s.artifact is not None}
        check_reused(plan, held, reused)
    return plan


def _resolve(
    loaded: LoadedRecipe,
    store: Store,
    offline: bool,
    max_memory_mb: int | None,
    until: str,
    pin: Pin | None,
) -> Plan | PytorchPlan:
    """The plan of a recipe that was read, on this machine."""
    from pipeline.hardware import detect
    from pipeline.plan import resolve
    from pipeline.pytorch_plan import resolve_pytorch
    from pipeline.sources.digest_memory import DigestMemory

    memory = DigestMemory(store.root)
    if loaded.recipe.package.kind == "pytorch":
        return resolve_pytorch(loaded, memory=memory, hardware=detect(), offline=offline, pin=pin)
    limit = {} if max_memory_mb is None else {"max_memory_bytes": max_memory_mb * 1_000_000}
    try:
        return resolve(
            loaded,
            memory=memory,
            hardware=detect(),
            cache_dir=store.build_caches,
            offline=offline,
            pin=pin,
            **limit,
        )
    except PlanRefused as refused:
        from pipeline.run import problems_until

        raise PlanRefused(problems_until(refused.problems, until)) from None


def _stage_command(name: str, until: str, help_text: str) -> Callable[..., None]:
    """The command that runs the stages up to `until`."""

    def command(
        recipe: RecipeArg,
        overrides: SetOpt = None,
        variant: VariantOpt = None,
        store: StoreOpt = None,
        shared: SharedOpt = None,
        store_limit: StoreLimitOpt = None,
        out: OutOpt = None,
        offline: OfflineOpt = False,
        frozen: FrozenOpt = False,
        lock_timeout: LockTimeoutOpt = 3600.0,
        max_memory: MaxMemoryOpt = None,
        as_json: JsonOpt = False,
        quiet: QuietOpt = False,
        debug: DebugOpt = False,
    ) -> None:
        with answering(Mode(as_json, quiet, debug)) as console:
            opened = open_store(store, shared)
            plan = resolve_recipe(
                *(recipe, variant, overrides, opened, offline, max_memory, until),
                frozen=frozen,
                note=console.note,
            )
            wishes = Wishes(out, lock_timeout, limit_bytes(store_limit))
            carry_out(name, until, plan, opened, console, wishes)

    command.__doc__ = help_text
    return command


def convert(
    recipe: RecipeArg,
    overrides: SetOpt = None,
    variant: VariantOpt = None,
    store: StoreOpt = None,
    shared: SharedOpt = None,
    store_limit: StoreLimitOpt = None,
    out: OutOpt = None,
    explain: ExplainOpt = None,
    offline: OfflineOpt = False,
    frozen: FrozenOpt = False,
    lock_timeout: LockTimeoutOpt = 3600.0,
    max_memory: MaxMemoryOpt = None,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Convert to a TensorRT-LLM checkpoint, and verify the round trip."""
    with answering(Mode(as_json, quiet, debug)) as console:
        opened = open_store(store, shared)
        plan = resolve_recipe(
            *(recipe, variant, overrides, opened, offline, max_memory, "verify"),
            frozen=frozen,
            note=console.note,
        )
        if explain is None:
            wishes = Wishes(out, lock_timeout, limit_bytes(store_limit))
            carry_out("convert", "verify", plan, opened, console, wishes)
            return
        from pipeline.pytorch_plan import PytorchPlan
        from pipeline.report import explanation_text
        from pipeline.run import stages_until
        from pipeline.weights.explanation import explanation

        stages_until(plan, "convert")
        assert not isinstance(plan, PytorchPlan)
        found = explanation(plan.conversion, explain)
        console.result({"tensor": explain, "ranks": found}, explanation_text(found))


def add_stage_commands(app: typer.Typer) -> None:
    """Register `run`, `plan` and a command for each stage."""
    for name, (until, help_text) in STAGE_HELP.items():
        made = convert if name == "convert" else _stage_command(name, until, help_text)
        app.command(name=name, help=help_text)(made)
    app.command()(plan)


def plan(
    recipe: RecipeArg,
    overrides: SetOpt = None,
    variant: VariantOpt = None,
    store: StoreOpt = None,
    shared: SharedOpt = None,
    offline: OfflineOpt = False,
    frozen: FrozenOpt = False,
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Show what a run would do, and every problem, before any weight is read."""
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.plan import with_digests
        from pipeline.plan_report import plan_document, plan_text
        from pipeline.pytorch_plan import PytorchPlan
        from pipeline.pytorch_report import pytorch_plan_document, pytorch_plan_text
        from pipeline.run import find_problems, preview

        opened = open_store(store, shared)
        resolved = resolve_recipe(
            *(recipe, variant, overrides, opened, offline), frozen=frozen, note=console.note
        )
        states = preview(resolved, opened, "package")
        problems = find_problems(resolved, states, opened)
        if not problems and resolved.source.listing.total_bytes <= HASHED_BY_PLAN_BYTES:
            resolved = with_digests(resolved)
            states = preview(resolved, opened, "package")
        if isinstance(resolved, PytorchPlan):
            document = pytorch_plan_document(resolved, states, problems, opened)
            text = pytorch_plan_text(document, problems)
        else:
            document = plan_document(resolved, states, problems, opened)
            text = plan_text(document, problems)
        console.result(document, text)
        if problems:
            raise typer.Exit(PlanRefused(problems).exit_code)
