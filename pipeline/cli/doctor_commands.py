"""The command that examines this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.answering import Mode, answering
from pipeline.cli.options import (
    DebugOpt,
    JsonOpt,
    OfflineOpt,
    StoreOpt,
    VariantOpt,
    store_folder,
)
from pipeline.cli.stage_options import StageOptions
from pipeline.errors import MachineError, Problem, UsageError
from pipeline.system.refusals import file_error

if TYPE_CHECKING:
    from pipeline.doctor.installed import Installed

RequireOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--require",
        metavar="BACKEND",
        help="End with exit code 4 unless this backend can build here; may be repeated.",
    ),
]
WriteFactsOpt = Annotated[
    Path | None,
    typer.Option(
        "--write-facts",
        metavar="FILE",
        help="Also store what was read of the installed TensorRT-LLM, to send it with a report.",
    ),
]
ForRecipeOpt = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        metavar="RECIPE",
        help="Also say which differences concern this recipe; end with exit code 4 if any does.",
    ),
]


def add_doctor_commands(app: typer.Typer) -> None:
    """Register `doctor`."""
    app.command()(doctor)


def doctor(
    require: RequireOpt = None,
    write_facts: WriteFactsOpt = None,
    recipe: ForRecipeOpt = None,
    variant: VariantOpt = None,
    offline: OfflineOpt = False,
    store: StoreOpt = None,
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Say what this machine can build and run, why not, and how its TensorRT-LLM differs.

    The exit code is 0 whatever is found, but 4 where a backend named by `--require` cannot build,
    or the installed TensorRT-LLM differs in what `--recipe` uses. No network request is made,
    unless the recipe's source is in a hub.
    """
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.cli.doctor_text import doctor_text
        from pipeline.doctor.examination import examine
        from pipeline.doctor.installed import read_installed

        _check_names(require or [])
        installed = read_installed()
        if write_facts is not None:
            _write(installed, write_facts)
        document = examine(store_folder(store), installed)
        missing = [name for name in require or [] if not document["backends"][name]["builds"]]
        concerned = []
        if recipe is not None:
            asked = StageOptions(recipe, variant=variant, store=store, offline=offline)
            concerned = _concerned(installed, asked)
            told = [problem.message for problem in concerned]
            document["recipe"] = {"path": str(recipe), "differences": told}
        document["required"] = {"backends": list(require or []), "missing": missing}
        console.result(document, doctor_text(document))
        if missing or concerned:
            raise typer.Exit(MachineError.exit_code)


def _concerned(installed: Installed | None, asked: StageOptions) -> list[Problem]:
    """What of the drift a build of the recipe would meet. Raises as planning it does."""
    from pipeline.cli.planning import open_store, resolve_recipe
    from pipeline.doctor.drift_problems import drift_problems
    from pipeline.doctor.examination import drift_of
    from pipeline.engines.trtllm.request import build_request
    from pipeline.plan import Plan

    plan = resolve_recipe(asked, open_store(asked))
    if not isinstance(plan, Plan) or plan.recipe.engine.backend != "trtllm":
        raise UsageError(
            f"`{asked.recipe}` does not build with TensorRT-LLM: nothing of it concerns the recipe",
            hint="name a recipe, or by `--variant` a variant, with `engine.backend: trtllm`",
        )
    if installed is None:
        raise MachineError(
            "`tensorrt_llm` is not installed here: there is nothing to compare with",
            hint="run it inside NVIDIA's TensorRT-LLM image",
        )
    config = plan.conversion.config
    request = build_request(plan.recipe.engine, config)
    return drift_problems(drift_of(installed), request.options, config)


def _check_names(names: list[str]) -> None:
    from pipeline.engines import BACKENDS

    for name in names:
        if name not in BACKENDS:
            known = ", ".join(f"`{backend}`" for backend in BACKENDS)
            raise UsageError(f"`--require {name}` names no backend", hint=f"use one of {known}")


def _write(installed: Installed | None, path: Path) -> None:
    """Store what was read, whole or not at all. Raises MachineError where there is nothing."""
    from pipeline.artifact import encode_json
    from pipeline.files.durable import write_atomic

    if installed is None:
        raise MachineError(
            "there are no facts to write: `tensorrt_llm` is not installed here",
            hint="run it inside NVIDIA's TensorRT-LLM image, e.g. `docker build --target trtllm`",
        )
    try:
        write_atomic(path, encode_json(installed.document()))
    except OSError as error:
        hint = "name a file in another folder"
        raise file_error(error, path, "cannot be written", hint) from None
