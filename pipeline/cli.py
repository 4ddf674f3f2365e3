"""The command line: one thin function per command; the only module that ends the process.

Modules that load recipes, plans and stages are imported inside the commands, so that `--help`
answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import __version__
from pipeline.errors import PipelineError, PlanRefused, UsageError

if TYPE_CHECKING:
    from pipeline.artifact import Store
    from pipeline.console import Console
    from pipeline.plan import Plan

app = typer.Typer(
    name="trtllm-pack",
    help="One recipe in, one verified, reproducible TensorRT engine release out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
recipes_app = typer.Typer(help="Write, check and list recipes.", no_args_is_help=True)
app.add_typer(recipes_app, name="recipes")

RecipeArg = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE")]
PathArg = Annotated[Path, typer.Argument(metavar="PATH")]
SetOpt = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key; may be repeated."),
]
VariantOpt = Annotated[
    str | None, typer.Option("--variant", help="Use this variant of the recipe.")
]
StoreOpt = Annotated[
    Path | None,
    typer.Option(
        "--store", envvar="TRTLLM_PACK_STORE", help="Artifact store [default: the user's cache]."
    ),
]
OutOpt = Annotated[
    Path | None, typer.Option("--out", help="Also place the artifact in this folder.")
]
OfflineOpt = Annotated[bool, typer.Option("--offline", help="Make no network request.")]
LockTimeoutOpt = Annotated[
    float,
    typer.Option("--lock-timeout", help="Seconds to wait for a process that makes the same."),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
QuietOpt = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
DebugOpt = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

STAGE_HELP = {
    "run": ("package", "Run all stages: download, convert, verify, build, smoke, package."),
    "download": ("download", "Fetch and check the source checkpoint."),
    "convert": ("verify", "Convert to a TensorRT-LLM checkpoint, and verify the round trip."),
    "build": ("build", "Build the engine and prove its attention."),
    "smoke": ("smoke", "Generate text with the engine and check the expectations."),
    "package": ("package", "Make the release; the same as `run`."),
}
"""Command -> last stage that it runs, help. `--out` places the artifact of the command's stage."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How a command answers."""

    json: bool = False
    quiet: bool = False
    debug: bool = False


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    app()


def _terminate(signum: int, _frame: object) -> None:
    # SystemExit unwinds through every `finally`, so nothing half-written stays behind.
    raise SystemExit(128 + signum)


@contextmanager
def _answering(mode: Mode) -> Iterator[Console]:
    """Give a command its console; turn what it raises into text and an exit code."""
    from pipeline.console import Console

    console = Console("json" if mode.json else "quiet" if mode.quiet else "human")
    try:
        yield console
    except PipelineError as error:
        if mode.debug:
            traceback.print_exc()
        console.error(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise typer.Exit(128 + signal.SIGINT) from None
    except BrokenPipeError:
        # The reader of stdout has left; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(128 + signal.SIGPIPE) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback unasked
        if mode.debug:
            traceback.print_exc()
        unexpected = PipelineError(
            f"unexpected {type(error).__name__}: {error}",
            hint="this is a fault of trtllm-pack: run again with `--debug` and report it",
        )
        console.error(unexpected)
        raise typer.Exit(unexpected.exit_code) from None


def _open_store(path: Path | None) -> Store:
    from pipeline.artifact import Store

    if path is None:
        from platformdirs import user_cache_path

        path = user_cache_path("trtllm-pack")
    return Store(path.absolute())


def _resolve(
    recipe: Path, variant: str | None, overrides: list[str] | None, store: Store, offline: bool
) -> Plan:
    from pipeline.hardware import detect
    from pipeline.plan import resolve
    from pipeline.recipe.load import load_recipe
    from pipeline.sources.digest_memory import DigestMemory

    loaded = load_recipe(recipe, variant=variant, overrides=tuple(overrides or ()))
    memory = DigestMemory(store.root)
    return resolve(loaded, memory=memory, hardware=detect(), offline=offline)


def _stage_command(name: str, until: str, help_text: str) -> Callable[..., None]:
    """The command that runs the stages up to `until`."""

    def command(
        recipe: RecipeArg,
        overrides: SetOpt = None,
        variant: VariantOpt = None,
        store: StoreOpt = None,
        out: OutOpt = None,
        offline: OfflineOpt = False,
        lock_timeout: LockTimeoutOpt = 3600.0,
        as_json: JsonOpt = False,
        quiet: QuietOpt = False,
        debug: DebugOpt = False,
    ) -> None:
        with _answering(Mode(as_json, quiet, debug)) as console:
            from pipeline.artifact import export
            from pipeline.report import run_document, run_text
            from pipeline.run import run

            opened = _open_store(store)
            plan = _resolve(recipe, variant, overrides, opened, offline)
            with console.watching() as observer:
                results = run(plan, opened, until, observer, lock_timeout_s=lock_timeout)
            wanted = "package" if name == "run" else name
            artifact = next(r.artifact for r in results if r.stage.name == wanted)
            if out is not None:
                export(artifact, out)
            document = run_document(results, artifact, out)
            console.result(document, run_text(results, artifact, out))

    command.__doc__ = help_text
    return command


for _name, (_until, _help) in STAGE_HELP.items():
    app.command(name=_name, help=_help)(_stage_command(_name, _until, _help))


@app.command()
def plan(
    recipe: RecipeArg,
    overrides: SetOpt = None,
    variant: VariantOpt = None,
    store: StoreOpt = None,
    offline: OfflineOpt = False,
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Show what a run would do, and every problem, before any weight is read."""
    with _answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.report import plan_document, plan_text
        from pipeline.run import find_problems, preview

        opened = _open_store(store)
        resolved = _resolve(recipe, variant, overrides, opened, offline)
        states = preview(resolved, opened, "package")
        problems = find_problems(resolved, states, opened)
        document = plan_document(resolved, states, problems, opened)
        console.result(document, plan_text(document, problems))
        if problems:
            raise typer.Exit(PlanRefused(problems).exit_code)


@app.command()
def verify(path: PathArg, as_json: JsonOpt = False, debug: DebugOpt = False) -> None:
    """Check every byte of a release, a folder or a tar, and its fit to this machine."""
    with _answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.hardware import detect
        from pipeline.release.verify import verify_release

        report = verify_release(path, detect())
        console.result(report.document(), report.text())


@app.command()
def inspect(path: PathArg, as_json: JsonOpt = False, debug: DebugOpt = False) -> None:
    """Explain a recipe, source checkpoint, rank file, checkpoint, engine, artifact or release."""
    with _answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.inspection import inspect_path, inspection_text

        document = inspect_path(path)
        console.result(document, inspection_text(document))


@recipes_app.command(name="list")
def list_recipes(
    folder: Annotated[Path, typer.Argument(help="Folder to look in.")] = Path("recipes"),
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """List the recipes below a folder."""
    with _answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.report import recipes_document, recipes_text

        document = recipes_document(folder)
        console.result(document, recipes_text(document))


@recipes_app.command()
def check(
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...")],
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Check recipes and all their variants; nothing is fetched."""
    with _answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.recipe.load import load_recipe

        loaded = [load_recipe(path) for path in recipes]
        names = [f"{item.path}: {item.recipe.name}" for item in loaded]
        console.result({"recipes": [str(item.path) for item in loaded]}, "\n".join(names))


@recipes_app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the release; the file is NAME.yaml.")],
    repo: Annotated[str | None, typer.Option(help="Hugging Face repo, owner/name.")] = None,
    path: Annotated[str | None, typer.Option(help="Local checkpoint folder.")] = None,
    debug: DebugOpt = False,
) -> None:
    """Write a new recipe with comments."""
    with _answering(Mode(debug=debug)) as console:
        from pipeline.recipe.scaffold import scaffold

        if (repo is None) == (path is None):
            raise UsageError("a recipe needs one source", hint="give either `--repo` or `--path`")
        file = Path(f"{name}.yaml")
        text = scaffold(name, repo=repo, path=path)
        try:
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            raise UsageError(f"`{file}` exists already", hint="choose another name") from None
        console.result({"recipe": str(file)}, f"wrote {file}")


@recipes_app.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    with _answering(Mode(json=True)) as console:
        from pipeline.recipe.json_schema import recipe_json_schema

        console.result(recipe_json_schema(), "")


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
