"""The commands that look at what was made."""

from __future__ import annotations

import typer

from pipeline.cli.answering import Mode, answering
from pipeline.cli.options import DebugOpt, JsonOpt, PathArg


def add_release_commands(app: typer.Typer) -> None:
    """Register `verify` and `inspect`."""
    app.command()(verify)
    app.command()(inspect)


def verify(path: PathArg, as_json: JsonOpt = False, debug: DebugOpt = False) -> None:
    """Check every byte of a release, a folder or a tar, and its fit to this machine."""
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.hardware import detect
        from pipeline.release.verify import verify_release

        report = verify_release(path, detect())
        console.result(report.document(), report.text())


def inspect(path: PathArg, as_json: JsonOpt = False, debug: DebugOpt = False) -> None:
    """Explain a recipe, source checkpoint, rank file, checkpoint, engine, artifact or release."""
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.inspection import inspect_path, inspection_text

        document = inspect_path(path)
        console.result(document, inspection_text(document))
