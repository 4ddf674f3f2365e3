"""From a command line to a plan: its store, its recipe, what the lock beside that says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.cli.options import store_folder
from pipeline.errors import PlanRefused
from pipeline.progress import no_note

if TYPE_CHECKING:
    from pipeline.cli.stage_options import StageOptions
    from pipeline.plan import Plan
    from pipeline.pytorch_plan import PytorchPlan
    from pipeline.recipe.load import LoadedRecipe
    from pipeline.sources import Pin
    from pipeline.store import Store


def open_store(asked: StageOptions) -> Store:
    """The store of a command, and the stores of others that it reads."""
    from pipeline.store import Store

    return Store(store_folder(asked.store), tuple(path.absolute() for path in asked.shared or ()))


def resolve_recipe(
    asked: StageOptions,
    store: Store,
    until: str = "package",
    *,
    note: Callable[[str], None] = no_note,
) -> Plan | PytorchPlan:
    """The plan. Where there is none, only the problems of stages up to `until` are told.

    `--frozen` holds it to the recipe's lock file. Otherwise a lock decides the commit of a branch,
    and `note` is told so, and of what differs; also where a site is asked once more.
    """
    from pipeline.lock.frozen import apply, check_reused, hold
    from pipeline.recipe.load import load_recipe
    from pipeline.run import preview

    overrides = tuple(asked.overrides or ())
    loaded = load_recipe(asked.recipe, variant=asked.variant, overrides=overrides)
    held = hold(loaded, frozen=asked.frozen)
    plan, notes = apply(_resolve(loaded, asked, store, until, held.pin, note), held)
    for text in notes:
        note(text)
    if asked.frozen:
        states = preview(plan, store, until)
        check_reused(plan, [state.artifact for state in states if state.artifact is not None])
    return plan


def _resolve(
    loaded: LoadedRecipe,
    asked: StageOptions,
    store: Store,
    until: str,
    pin: Pin | None,
    note: Callable[[str], None],
) -> Plan | PytorchPlan:
    """The plan of a recipe that was read, on this machine."""
    from pipeline.hardware import detect
    from pipeline.plan import resolve
    from pipeline.pytorch_plan import resolve_pytorch
    from pipeline.sources.digest_memory import DigestMemory

    memory, offline = DigestMemory(store.root), asked.offline
    if loaded.recipe.package.kind == "pytorch":
        return resolve_pytorch(
            loaded, memory=memory, hardware=detect(), offline=offline, pin=pin, note=note
        )
    megabytes = asked.max_memory
    limit = {} if megabytes is None else {"max_memory_bytes": megabytes * 1_000_000}
    try:
        return resolve(
            loaded,
            memory=memory,
            hardware=detect(),
            cache_dir=store.build_caches,
            offline=offline,
            pin=pin,
            note=note,
            **limit,
        )
    except PlanRefused as refused:
        from pipeline.run import problems_until

        raise PlanRefused(problems_until(refused.problems, until)) from None
