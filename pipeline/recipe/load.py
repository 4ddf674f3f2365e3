"""Load a recipe: read the file and its parents, merge, validate, report every mistake at once."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RecipeError
from pipeline.recipe.layers import Layer, merge_layers, source_dir
from pipeline.recipe.mistakes import Mistake, refusal
from pipeline.recipe.nodes import Plain
from pipeline.recipe.overrides import parse_override
from pipeline.recipe.recipe_file import Chain, RecipeFile, read_chain
from pipeline.recipe.schema import Recipe
from pipeline.recipe.secrets_written import secret_mistakes
from pipeline.recipe.validate import validate_layers


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A recipe, and what it was made from.

    `base_dir` is the folder that a relative `source.path` counts from: that of the file which
    wrote it, and the current folder for `--set`. `document` is the merged mapping as written, with
    `extends`, `variants` and overrides applied and without defaults: JSON, and itself a recipe.
    `files` has the recipe file first, then its parents; `variants` all names that can be chosen.
    """

    recipe: Recipe
    path: Path
    base_dir: Path
    files: tuple[Path, ...]
    variant: str | None
    variants: tuple[str, ...]
    document: Mapping[str, Plain]


def load_recipe(
    path: Path, *, variant: str | None = None, overrides: Sequence[str] = ()
) -> LoadedRecipe:
    """Load the recipe at `path`, one of its variants if named, with `key.path=value` overrides.

    Weakest first: the parents by `extends`, the file, the variant (a parent's, then the file's),
    `overrides` in their order. Mappings merge by key; lists and single values replace; a `source`
    with another `repo` or `path` replaces the whole section, `revision` included. The file must be
    a valid recipe without overrides, and with each of its variants, whichever is chosen.

    Raises RecipeError with every mistake as a fact (place, source line, hint), or where there is
    no such file or variant; MachineError where the file may not be read.
    """
    chain = read_chain(path)
    mistakes = list(chain.mistakes)
    sets: list[Layer] = []
    for text in overrides:
        parsed = parse_override(text)
        if isinstance(parsed, Layer):
            sets.append(parsed)
        else:
            mistakes += parsed
    if not chain.is_whole:
        raise refusal(str(path), mistakes)
    names = sorted({name for file in chain.files for name in file.variants})
    mistakes += _check_file(chain, names) + secret_mistakes(sets)
    layers = [*_layers(chain, variant if variant in names else None), *sets]
    recipe, found = validate_layers(layers)
    mistakes += found
    if recipe is None or mistakes:
        raise refusal(str(path), mistakes)
    if variant is not None and variant not in names:
        raise _unknown_variant(path, variant, names)
    return LoadedRecipe(
        recipe=recipe,
        path=path,
        base_dir=source_dir(layers),
        files=tuple(chain.paths),
        variant=variant,
        variants=tuple(names),
        document=merge_layers(layers),
    )


def load_all(path: Path) -> tuple[LoadedRecipe, ...]:
    """The recipe without a variant, then with each of its variants by name.

    The files are read once. Raises as `load_recipe` does.
    """
    chain = read_chain(path)
    names = sorted({name for file in chain.files for name in file.variants})
    mistakes = list(chain.mistakes)
    if chain.is_whole:
        mistakes += _check_file(chain, names)
    if mistakes:
        raise refusal(str(path), mistakes)
    return tuple(_loaded(chain, path, name, names) for name in (None, *names))


def _loaded(chain: Chain, path: Path, variant: str | None, names: Sequence[str]) -> LoadedRecipe:
    """One variant of a file that has no mistakes."""
    layers = _layers(chain, variant)
    recipe, mistakes = validate_layers(layers)
    assert recipe is not None, f"a variant that was checked has mistakes: {mistakes}"
    return LoadedRecipe(
        recipe=recipe,
        path=path,
        base_dir=source_dir(layers),
        files=tuple(chain.paths),
        variant=variant,
        variants=tuple(names),
        document=merge_layers(layers),
    )


def _layers(chain: Chain, variant: str | None) -> list[Layer]:
    """The layers of the files, and of a variant as each of them has it."""
    files = chain.files[::-1]
    layers = [Layer(file.body, file.path.parent, "file") for file in files]
    if variant is not None:
        layers += [_variant_layer(file, variant) for file in files if variant in file.variants]
    return layers


def _variant_layer(file: RecipeFile, name: str) -> Layer:
    return Layer(file.variants[name], file.path.parent, "variant")


def _check_file(chain: Chain, names: Sequence[str]) -> list[Mistake]:
    """Mistakes of the recipe without a variant, and those that each variant adds."""
    _, mistakes = validate_layers(_layers(chain, None))
    known = set(mistakes)
    for name in names:
        _, found = validate_layers(_layers(chain, name))
        mistakes += [dataclasses.replace(each, variant=name) for each in found if each not in known]
        known.update(found)
    variants = [_variant_layer(file, name) for file in chain.files for name in file.variants]
    return mistakes + secret_mistakes([*_layers(chain, None), *variants])


def _unknown_variant(path: Path, name: str, names: Sequence[str]) -> RecipeError:
    message = f"`{path}` has no variant `{name}`"
    if not names:
        return RecipeError(message, hint="it has no variants: leave out `--variant`")
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean `{nearest[0]}`?" if nearest else "choose one of its variants"
    return RecipeError(message, facts=[f"`{known}`" for known in names], hint=hint)
