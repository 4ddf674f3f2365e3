"""The commands that make and run a plan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import typer

from pipeline.cli.answering import answering
from pipeline.cli.carry_out import carry_out
from pipeline.cli.planning import open_store, resolve_recipe
from pipeline.cli.stage_options import StageOptions, taking_options
from pipeline.errors import PlanRefused

if TYPE_CHECKING:
    from pipeline.console import Console
    from pipeline.plan import Plan
    from pipeline.pytorch_plan import PytorchPlan

STAGE_HELP = {
    "run": ("package", "Run all stages: download, convert, verify, build, smoke, package."),
    "download": ("download", "Fetch and check the source checkpoint."),
    "convert": ("verify", "Convert to a TensorRT-LLM checkpoint, and verify the round trip."),
    "build": ("build", "Build the engine and prove its attention."),
    "smoke": ("smoke", "Generate text with the engine and check the expectations."),
    "package": ("package", "Make the release; the same as `run`."),
}
"""Command -> last stage that it runs, help. `--out` places the artifact of the command's stage."""

RUNS_NOTHING = ("store_limit", "out", "explain", "lock_timeout", "max_memory", "quiet")
"""Options that `plan` has no use for."""

HASHED_BY_PLAN_BYTES = 1 << 30
"""A local source up to this size is hashed by `plan`, problems aside, so that keys are shown."""


def add_stage_commands(app: typer.Typer) -> None:
    """Register `run`, `plan` and a command for each stage."""
    for name, (until, help_text) in STAGE_HELP.items():
        but = () if name == "convert" else ("explain",)
        app.command(name=name, help=help_text)(_stage_command(name, until, but))
    help_text = "Show what a run would do, and every problem, before any weight is read."
    app.command(name="plan", help=help_text)(taking_options(_plan, but=RUNS_NOTHING))


def _stage_command(name: str, until: str, but: tuple[str, ...]) -> Callable[..., None]:
    return taking_options(partial(_run_stages, name, until), but=but)


def _run_stages(name: str, until: str, asked: StageOptions) -> None:
    """Run the stages up to `until`, or with `--explain` only say how a tensor is made."""
    with answering(asked.mode) as console:
        store = open_store(asked)
        plan = resolve_recipe(asked, store, until, note=console.note)
        if asked.explain is None:
            carry_out(name, until, plan, store, console, asked)
        else:
            _explain(plan, asked.explain, console)


def _explain(plan: Plan | PytorchPlan, tensor: str, console: Console) -> None:
    from pipeline.answers.run_report import explanation_text
    from pipeline.pytorch_plan import PytorchPlan
    from pipeline.run import stages_until
    from pipeline.weights.explanation import explanation

    stages_until(plan, "convert")
    assert not isinstance(plan, PytorchPlan)
    found = explanation(plan.conversion, tensor)
    console.result({"tensor": tensor, "ranks": found}, explanation_text(found))


def _plan(asked: StageOptions) -> None:
    """Resolve a plan, and show it with its problems."""
    with answering(asked.mode) as console:
        from pipeline.answers.plan_report import plan_document, plan_text
        from pipeline.answers.pytorch_report import pytorch_plan_document, pytorch_plan_text
        from pipeline.plan import with_digests
        from pipeline.pytorch_plan import PytorchPlan
        from pipeline.run import find_problems, preview

        store = open_store(asked)
        plan = resolve_recipe(asked, store, note=console.note)
        states = preview(plan, store, "package")
        problems = find_problems(plan, states, store)
        if not problems and plan.source.listing.total_bytes <= HASHED_BY_PLAN_BYTES:
            plan = with_digests(plan)
            states = preview(plan, store, "package")
        if isinstance(plan, PytorchPlan):
            document = pytorch_plan_document(plan, states, problems, store)
            text = pytorch_plan_text(document, problems)
        else:
            document = plan_document(plan, states, problems, store)
            text = plan_text(document, problems)
        console.result(document, text)
        if problems:
            raise typer.Exit(PlanRefused(problems).exit_code)
