"""The command that examines this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.answering import Mode, answering
from pipeline.cli.options import DebugOpt, JsonOpt, StoreOpt, store_folder
from pipeline.errors import MachineError, UsageError

if TYPE_CHECKING:
    from pipeline.artifact import Json
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


def add_doctor_commands(app: typer.Typer) -> None:
    """Register `doctor`."""
    app.command()(doctor)


def doctor(
    require: RequireOpt = None,
    write_facts: WriteFactsOpt = None,
    store: StoreOpt = None,
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Say what this machine can build and run, why not, and how its TensorRT-LLM differs.

    The exit code is 0 whatever is found, but 4 where a backend named by `--require` cannot build.
    No network request is made.
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
        document["required"] = {"backends": list(require or []), "missing": missing}
        console.result(document, doctor_text(document))
        if missing:
            raise typer.Exit(MachineError.exit_code)


def _check_names(names: list[str]) -> None:
    from pipeline.engines import BACKENDS

    for name in names:
        if name not in BACKENDS:
            known = ", ".join(f"`{backend}`" for backend in BACKENDS)
            raise UsageError(f"`--require {name}` names no backend", hint=f"use one of {known}")


def _write(installed: Installed | None, path: Path) -> None:
    """Store what was read, whole or not at all. Raises MachineError where there is nothing."""
    from pipeline.artifact import write_json

    if installed is None:
        raise MachineError(
            "there are no facts to write: `tensorrt_llm` is not installed here",
            hint="run it inside NVIDIA's TensorRT-LLM image, e.g. `docker build --target trtllm`",
        )
    document: dict[str, Json] = installed.document()
    partial = path.with_name(f".{path.name}.partial")
    try:
        write_json(partial, document)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise MachineError(
            f"`{path}` cannot be written: {error.strerror}", hint="name a file in another folder"
        ) from None
