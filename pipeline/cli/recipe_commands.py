"""The commands below `recipes`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.answering import Mode, answering
from pipeline.cli.new_file import write_new
from pipeline.cli.options import DebugOpt, JsonOpt
from pipeline.errors import PipelineError, RecipeError, hint_of

if TYPE_CHECKING:
    from pipeline.artifact import Json

recipes_app = typer.Typer(help="Write, check and list recipes.", no_args_is_help=True)


@recipes_app.command(name="list")
def list_recipes(
    folder: Annotated[Path, typer.Argument(help="Folder to look in.")] = Path("recipes"),
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """List the recipes below a folder."""
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.answers.run_report import recipes_document, recipes_text

        document = recipes_document(folder)
        console.result(document, recipes_text(document))


@recipes_app.command()
def check(
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...")],
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Check recipes, all their variants, and the lock files beside them; nothing is fetched."""
    with answering(Mode(json=as_json, debug=debug)) as console:
        rows: list[dict[str, Json]] = []
        mistakes: list[PipelineError] = []
        lines = []
        for path in recipes:
            try:
                row = _check_recipe(path)
            except PipelineError as error:
                mistakes.append(error)
                continue
            rows.append(row)
            lines.append(_line(row))
        if mistakes:
            raise _all_together(mistakes)
        console.result({"recipes": rows}, "\n".join(lines))


def _check_recipe(path: Path) -> dict[str, Json]:
    """What is told of a recipe that is right, and whose lock, where it has one, fits."""
    from pipeline.lock.frozen import check_coverage
    from pipeline.lock.reading import find_lock
    from pipeline.recipe.load import load_all

    recipes = load_all(path)
    file = find_lock(path)
    if file is not None:
        check_coverage(file.lock, recipes, file.path.name)
    return {
        "path": str(path),
        "name": recipes[0].recipe.name,
        "variants": list(recipes[0].variants),
        "lock": None if file is None else file.path.name,
    }


def _line(row: Mapping[str, Json]) -> str:
    locked = [f"(locked by {row['lock']})"] if row["lock"] else []
    return " ".join([row["path"], *row["variants"], *locked])


def _hint_lines(error: PipelineError) -> list[str]:
    hint = hint_of(type(error), error.hint)
    return [f"hint: {hint}"] if hint else []


def _all_together(errors: list[PipelineError]) -> PipelineError:
    """One error for several recipes; a single one stays itself."""
    if len(errors) == 1:
        return errors[0]
    facts = ["\n".join([e.message, *e.facts, *_hint_lines(e)]) for e in errors]
    return RecipeError(f"{len(errors)} recipes are wrong", facts=facts)


@recipes_app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the release; the file is NAME.yaml.")],
    repo: Annotated[str | None, typer.Option(help="Hugging Face repo, owner/name.")] = None,
    path: Annotated[str | None, typer.Option(help="Local checkpoint folder.")] = None,
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Write a new recipe with comments."""
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.recipe.scaffold import new_recipe

        text = new_recipe(name, repo=repo, path=path)
        file = Path(f"{name}.yaml")
        write_new(file, text)
        console.result({"recipe": str(file)}, f"wrote {file}")


@recipes_app.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    with answering(Mode()) as console:
        from pipeline.recipe.json_schema import recipe_json_schema, render_json_schema

        console.result(recipe_json_schema(), render_json_schema())
