"""The commands that look at what was made."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.answering import Mode, answering
from pipeline.cli.options import DebugOpt, JsonOpt, PathArg
from pipeline.errors import UsageError, VerificationError, advising

_AS_PACKED = "fetch the release again, or rebuild it from its recipe: it is not as it was packed"


def add_release_commands(app: typer.Typer) -> None:
    """Register `verify` and `inspect`."""
    app.command()(verify)
    app.command()(inspect)


def verify(path: PathArg, as_json: JsonOpt = False, debug: DebugOpt = False) -> None:
    """Check every byte of a release, a folder or a tar, and its fit to this machine."""
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.hardware import detect
        from pipeline.release.verify import verify_release

        with advising(VerificationError, _AS_PACKED):
            report = verify_release(path, detect())
        console.result(report.document(), report.text())


StrictOpt = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="End with exit code 6 where an ONNX file has anything that TensorRT would not take "
        "or not fuse, or weights that do not lie where it says.",
    ),
]


def inspect(
    path: PathArg, strict: StrictOpt = False, as_json: JsonOpt = False, debug: DebugOpt = False
) -> None:
    """Explain a recipe, checkpoint, weight file, ONNX file, engine, artifact or release."""
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.inspection import inspect_path, inspection_text

        document = inspect_path(path)
        if strict and "num_findings" not in document:
            kind = document["kind"]
            raise UsageError(
                f"`--strict` is for ONNX files, but `{path}` is "
                f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}",
                hint="name an ONNX file, such as the `decoder.onnx` of an engine; "
                "`trtllm-pack verify` checks releases",
            )
        console.result(document, inspection_text(document))
        if strict and document["num_findings"]:
            raise typer.Exit(VerificationError.exit_code)
