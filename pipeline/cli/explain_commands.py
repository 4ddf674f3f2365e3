"""The command that explains options and rules."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.answering import Mode, answering
from pipeline.cli.options import DebugOpt, JsonOpt


def add_explain_commands(app: typer.Typer) -> None:
    """Register `explain`; a flag such as `--gemm_plugin` is a name to it."""
    app.command(context_settings={"ignore_unknown_options": True})(explain)


def explain(
    name: Annotated[
        str | None,
        typer.Argument(help="A recipe key, a flag of trtllm-build, or a rule.", metavar="[NAME]"),
    ] = None,
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Explain an option or a rule of TensorRT-LLM; without NAME list all options."""
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.answers.explanation_text import all_text, one_text
        from pipeline.answers.explanations import explain as explain_one
        from pipeline.answers.explanations import explain_all

        if name is None:
            document = explain_all()
            console.result(document, all_text(document))
            return
        document = explain_one(name)
        console.result(document, one_text(document))
