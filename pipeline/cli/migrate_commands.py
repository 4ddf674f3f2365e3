"""The command `migrate`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.answering import Mode, answering
from pipeline.cli.new_file import write_new
from pipeline.cli.options import DebugOpt, JsonOpt
from pipeline.errors import RecipeError, UsageError
from pipeline.system.refusals import file_error

if TYPE_CHECKING:
    from pipeline.migration.migrate import Migration

InputArg = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE",
        help="A shell script, a Markdown text, a `--build_config` JSON, or an engine's "
        "config.json; `-` is stdin.",
    ),
]
CommandOpt = Annotated[
    list[str] | None,
    typer.Option("--command", help="A command line instead of a file; may be repeated."),
]
OutFileOpt = Annotated[
    Path | None, typer.Option("--out", help="Write the recipe to this new file, not to stdout.")
]
NameOpt = Annotated[str | None, typer.Option("--name", help="Name of the release.")]
SourceOpt = Annotated[
    str | None,
    typer.Option("--source", help="Repo (owner/name) or folder of the model, if not in the file."),
]
TargetOpt = Annotated[
    list[str] | None,
    typer.Option("--target", help="GPU architecture, e.g. sm89; may be repeated (default: sm90)."),
]
VarOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--var", metavar="NAME=VALUE", help="A variable that the script takes from outside."
    ),
]
PartialOpt = Annotated[
    bool, typer.Option("--partial", help="Succeed although something is left to write by hand.")
]


def add_migrate_commands(app: typer.Typer) -> None:
    """Add `migrate` to the command line."""
    app.command()(migrate)


def migrate(
    file: InputArg = None,
    command: CommandOpt = None,
    out: OutFileOpt = None,
    name: NameOpt = None,
    source: SourceOpt = None,
    target: TargetOpt = None,
    var: VarOpt = None,
    partial: PartialOpt = False,
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Turn old TensorRT-LLM command lines into a recipe; nothing is executed.

    The recipe goes to stdout, what became of every flag to stderr. Exit code 3: the recipe does
    not say all that the commands asked for.
    """
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.console import printable
        from pipeline.migration.explanation import document, explain
        from pipeline.migration.migrate import Options
        from pipeline.migration.migrate import migrate as migrate_text
        from pipeline.redaction import redact

        text, origin = _read(file, command or ())
        options = Options(origin, name, source, _targets(target or ()), _variables(var or ()))
        migration = migrate_text(text, options)
        if out is not None:
            write_new(out, redact(migration.recipe))
        if not as_json:
            sys.stderr.write(redact(printable(explain(migration))) + "\n\n")
            sys.stderr.flush()
        console.result(
            {**document(migration), "out": str(out) if out else None}, _told(out, migration)
        )
        if not migration.is_whole and not partial:
            raise typer.Exit(RecipeError.exit_code)


def _told(out: Path | None, migration: Migration) -> str:
    return migration.recipe if out is None else f"wrote {out}"


def _read(file: str | None, commands: Sequence[str]) -> tuple[str, str]:
    """The input and what to call it."""
    from pipeline.migration.migrate import MAX_CHARACTERS

    if (file is None) == (not commands):
        raise UsageError("give a file, `-`, or `--command`", hint="`trtllm-pack migrate build.sh`")
    if file is None:
        return "\n".join(commands), "the command line"
    try:
        if file == "-":
            data = sys.stdin.buffer.read(4 * MAX_CHARACTERS + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(4 * MAX_CHARACTERS + 1)
    except FileNotFoundError:
        raise UsageError(
            f"`{file}` does not exist", hint="name a script or a JSON; `-` is stdin"
        ) from None
    except OSError as error:
        hint = "give it a text: `trtllm-pack migrate - < build.sh`" if file == "-" else None
        raise file_error(error, file, "cannot be read", hint) from None
    try:
        return data.decode("utf-8-sig"), "stdin" if file == "-" else f"`{Path(file).name}`"
    except UnicodeDecodeError:
        hint = "give a shell script or a JSON"
        raise UsageError(f"`{file}` is not a UTF-8 text", hint=hint) from None


def _targets(given: Sequence[str]) -> tuple[str, ...]:
    for target in given:
        if not re.fullmatch(r"sm[0-9]{2,3}", target):
            raise UsageError(f"`--target {target}` is no GPU architecture", hint="e.g. `sm89`")
    return tuple(dict.fromkeys(given))


def _variables(given: Sequence[str]) -> Mapping[str, str]:
    for text in given:
        if not re.match(r"[A-Za-z_][A-Za-z0-9_]*=", text):
            raise UsageError(f"`--var {text}` is not `NAME=VALUE`")
    return {text.split("=", 1)[0]: text.split("=", 1)[1] for text in given}
