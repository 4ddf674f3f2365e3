"""The command line: one thin function per command; the only part that ends the process.

Modules that load recipes, plans and stages are imported inside the commands, so that `--help`
answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipeline import __version__
from pipeline.cli.answering import ending_in_words
from pipeline.cli.cache_commands import cache_app
from pipeline.cli.doctor_commands import add_doctor_commands
from pipeline.cli.explain_commands import add_explain_commands
from pipeline.cli.lock_commands import add_lock_commands
from pipeline.cli.migrate_commands import add_migrate_commands
from pipeline.cli.recipe_commands import recipes_app
from pipeline.cli.release_commands import add_release_commands
from pipeline.cli.stage_commands import add_stage_commands
from pipeline.protected_streams import protect_streams
from pipeline.system import interrupts

app = typer.Typer(
    name="trtllm-pack",
    help="One recipe in, one verified, reproducible TensorRT engine release out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
add_stage_commands(app)
add_lock_commands(app)
add_release_commands(app)
add_explain_commands(app)
add_migrate_commands(app)
add_doctor_commands(app)
app.add_typer(recipes_app, name="recipes")
app.add_typer(cache_app, name="cache")


def main() -> None:
    """Run the command line."""
    interrupts.install()
    protect_streams()
    with ending_in_words(sys.argv[1:]):
        app()


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
