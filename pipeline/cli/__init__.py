"""The command line: one thin function per command; the only part that ends the process.

Modules that load recipes, plans and stages are imported inside the commands, so that `--help`
answers at once.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from pipeline import __version__
from pipeline.cli.doctor_commands import add_doctor_commands
from pipeline.cli.explain_commands import add_explain_commands
from pipeline.cli.migrate_commands import add_migrate_commands
from pipeline.cli.recipe_commands import recipes_app
from pipeline.cli.release_commands import add_release_commands
from pipeline.cli.stage_commands import add_stage_commands

app = typer.Typer(
    name="trtllm-pack",
    help="One recipe in, one verified, reproducible TensorRT engine release out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
add_stage_commands(app)
add_release_commands(app)
add_explain_commands(app)
add_migrate_commands(app)
add_doctor_commands(app)
app.add_typer(recipes_app, name="recipes")


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        signal.signal(signal.SIGINT, _interrupt)
    app()


class Interrupted(KeyboardInterrupt):
    """A KeyboardInterrupt that always ends in our exit code.

    Where the plain one passes through `exec` of a text (imports make classes so), CPython remembers
    that and kills the process by the signal at its end, although it was caught (pythonrun.c).
    """


def _interrupt(_signum: int, _frame: object) -> None:
    raise Interrupted


def _terminate(signum: int, _frame: object) -> None:
    # SystemExit unwinds through every `finally`, so nothing half-written stays behind.
    raise SystemExit(128 + signum)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"trtllm-pack {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """One recipe in, one verified, reproducible TensorRT engine release out."""
