"""The command that locks a recipe."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.answering import Mode, answering
from pipeline.cli.options import (
    DebugOpt,
    JsonOpt,
    OfflineOpt,
    QuietOpt,
    RecipeArg,
    StoreOpt,
    store_folder,
)
from pipeline.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from pipeline.artifact import Json
    from pipeline.lock.document import Lock
    from pipeline.recipe.load import LoadedRecipe

UpdateOpt = Annotated[
    bool,
    typer.Option(
        "--update", help="Resolve branches and tags anew, and take the tools that are installed."
    ),
]


class Only(StrEnum):
    """What `--update` may be narrowed to."""

    sources = "sources"
    tools = "tools"


OnlyOpt = Annotated[
    Only | None,
    typer.Option("--only", help="With `--update`: leave the tools, or the sources, as locked."),
]
CheckOpt = Annotated[
    bool,
    typer.Option(
        "--check", help="Write nothing; end with exit code 6 where the lock would be another one."
    ),
]


def add_lock_commands(app: typer.Typer) -> None:
    """Register `lock`."""
    app.command()(lock)


def lock(
    recipe: RecipeArg,
    update: UpdateOpt = False,
    only: OnlyOpt = None,
    check: CheckOpt = False,
    store: StoreOpt = None,
    offline: OfflineOpt = False,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Lock a recipe and its variants: commits, files with digests, and tools; say what changes.

    It writes `<recipe>.lock.json` beside the recipe. What is locked stays while the recipe asks for
    it, unless `--update` is given. `run --frozen` refuses whatever differs from the lock.
    """
    with answering(Mode(as_json, quiet, debug)) as console:
        from pipeline.cli.lock_text import lock_text
        from pipeline.lock.changes import changes, is_changed
        from pipeline.lock.document import lock_path
        from pipeline.lock.making import make_lock, write_lock
        from pipeline.lock.reading import find_lock
        from pipeline.recipe.load import load_all
        from pipeline.sources.digest_memory import DigestMemory

        if only is not None and not update:
            raise UsageError("`--only` says what `--update` updates", hint="add `--update`")
        recipes, old, path = load_all(recipe), find_lock(recipe), lock_path(recipe)
        memory = DigestMemory(store_folder(store))
        new = make_lock(
            recipes,
            old,
            memory,
            update_sources=update and only is not Only.tools,
            update_tools=update and only is not Only.sources,
            offline=offline,
            note=console.note,
        )
        found = changes(old, new)
        is_new = is_changed(found)
        if is_new and not check:
            write_lock(path, new)
        document = {
            "lock": str(path),
            "existed": old is not None,
            "up_to_date": not is_new,
            "written": is_new and not check,
            "changes": found,
            "sources": _sources(new),
            "not_locked": _not_locked(recipes, new),
        }
        narrowed = f"--only {only} " if only else ""
        arguments = f"--update {narrowed}{recipe}" if update else str(recipe)
        console.result(document, lock_text(document, arguments))
        if check and is_new:
            raise typer.Exit(VerificationError.exit_code)


def _sources(lock: Lock) -> list[dict[str, Json]]:
    """A row for each source."""
    return [
        {
            "asked": dict(source.asked),
            "kind": source.kind,
            "commit": source.commit,
            "num_files": len(source.files),
            "total_bytes": source.total_bytes,
        }
        for source in lock.sources
    ]


def _not_locked(recipes: tuple[LoadedRecipe, ...], lock: Lock) -> dict[str, list[str]]:
    """Packages and engine backends of the recipe of which no version is known here."""
    from pipeline.lock.making import wanted_backends, wanted_tools
    from pipeline.lock.tools import not_locked

    return {
        "tools": not_locked(wanted_tools(recipes), lock.tools),
        "backends": sorted(wanted_backends(recipes) - lock.build_tools.keys()),
    }
