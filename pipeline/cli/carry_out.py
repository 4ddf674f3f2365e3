"""Carries out a plan for a command: runs its stages, places and shows what they made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.artifact import Artifact
    from pipeline.cli.stage_options import StageOptions
    from pipeline.console import Console
    from pipeline.plan import Plan
    from pipeline.pytorch_plan import PytorchPlan
    from pipeline.run import StageResult
    from pipeline.store import Store


def carry_out(
    name: str,
    until: str,
    plan: Plan | PytorchPlan,
    store: Store,
    console: Console,
    asked: StageOptions,
) -> None:
    """Run the stages up to `until`, place and show the artifact of the command's own."""
    from pipeline.answers.run_report import run_document, run_text
    from pipeline.placement.exports import check_out_dir, export
    from pipeline.run import run
    from pipeline.run_record import write_run_record
    from pipeline.store.amounts import parse_bytes

    wanted = "package" if name == "run" else name
    out, limit = asked.out, asked.store_limit
    max_bytes = None if limit is None else parse_bytes(limit, "`--store-limit`")
    if out is not None:
        _check_outside(out, store)
        check_out_dir(out, wanted, plan.recipe.name if wanted == "package" else None)

    def use(results: Sequence[StageResult]) -> None:
        write_run_record(plan, store, results)
        if out is not None:
            export(_made(results, wanted), out)

    with console.watching() as observer:
        timeout_s = asked.lock_timeout
        results = run(plan, store, until, observer, lock_timeout_s=timeout_s, use=use)
    artifact = _made(results, wanted)
    document = run_document(results, artifact, out)
    console.result(document, run_text(results, artifact, out))
    if max_bytes is not None:
        _keep_small(store, max_bytes, results, console)


def _made(results: Sequence[StageResult], wanted: str) -> Artifact:
    return next(result.artifact for result in results if result.stage.name == wanted)


def _check_outside(out: Path, store: Store) -> None:
    """What is placed in the store itself would be cleared with it, or taken for an artifact."""
    from pipeline.errors import UsageError

    if out.resolve().is_relative_to(store.root.resolve()):
        raise UsageError(
            f"`{out}` lies in the store `{store.root}`",
            hint="name a folder outside of it by `--out`",
        )


def _keep_small(
    store: Store, max_bytes: int, results: Sequence[StageResult], console: Console
) -> None:
    """Delete what was not used for longest; what this run has used stays.

    The run is done: what cannot be deleted now is told, and does not make it fail.
    """
    from pipeline.errors import LockedError, MachineError
    from pipeline.store.collection import Policy, collect

    keep = frozenset(f"{result.stage.name}/{result.artifact.key}" for result in results)
    try:
        found = collect(store.root, Policy(max_bytes=max_bytes, keep=keep))
    except (LockedError, MachineError) as error:
        console.note(f"nothing was deleted for `--store-limit`: {error.message}")
        return
    if found.refused:
        path, reason = found.refused[0]
        console.note(f"{len(found.refused)} could not be deleted, as `{path}`: {reason}")
    if found.artifacts:
        console.note(f"deleted {counted(len(found.artifacts), 'artifact')} for `--store-limit`")
    if found.disk_bytes > max_bytes:
        console.note(
            f"the artifacts of this run and of others at work take {found.disk_bytes:,} bytes, "
            f"more than `--store-limit` allows ({max_bytes:,})"
        )
