"""The commands below `recipes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.answering import Mode, answering
from pipeline.cli.new_file import write_new
from pipeline.cli.options import DebugOpt, JsonOpt
from pipeline.errors import PipelineError, RecipeError

recipes_app = typer.Typer(help="Write, check and list recipes.", no_args_is_help=True)


@recipes_app.command(name="list")
def list_recipes(
    folder: Annotated[Path, typer.Argument(help="Folder to look in.")] = Path("recipes"),
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """List the recipes below a folder."""
    with answering(Mode(json=as_json, debug=debug)) as console:
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
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.recipe.load import load_recipe

        rows: list[dict[str, str | list[str]]] = []
        mistakes: list[PipelineError] = []
        lines = []
        for path in recipes:
            try:
                loaded = load_recipe(path)
            except PipelineError as error:
                mistakes.append(error)
                continue
            variants = list(loaded.variants)
            rows.append({"path": str(path), "name": loaded.recipe.name, "variants": variants})
            lines.append(" ".join([str(path), *variants]))
        if mistakes:
            raise _all_together(mistakes)
        console.result({"recipes": rows}, "\n".join(lines))


def _all_together(errors: list[PipelineError]) -> PipelineError:
    """One error for several recipes; a single one stays itself."""
    if len(errors) == 1:
        return errors[0]
    facts = [f"{error.message}\n" + "\n".join(error.facts) for error in errors]
    return RecipeError(f"{len(errors)} recipes are wrong", facts=facts)


@recipes_app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the release; the file is NAME.yaml.")],
    repo: Annotated[str | None, typer.Option(help="Hugging Face repo, owner/name.")] = None,
    path: Annotated[str | None, typer.Option(help="Local checkpoint folder.")] = None,
    debug: DebugOpt = False,
) -> None:
    """Write a new recipe with comments."""
    with answering(Mode(debug=debug)) as console:
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
