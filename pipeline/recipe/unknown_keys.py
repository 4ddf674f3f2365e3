"""Keys that no recipe has: what was meant, and where it belongs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from pipeline.recipe.known_names import EXPLAINED_KEYS, RENAMED_KEYS, SECRET_KEYS
from pipeline.recipe.layers import Layer, find_written, mark_key
from pipeline.recipe.mistakes import Mistake
from pipeline.recipe.nodes import KeyPath, dotted
from pipeline.recipe.schema import TRTLLM_KEYS
from pipeline.recipe.sections import SectionPath, sections

FILE_KEYS = ("extends", "variants")
"""Keys of a recipe file that are not part of the recipe which it makes."""


def unknown_key(path: KeyPath, layers: Sequence[Layer]) -> Mistake:
    """The mistake of a key that its section does not have."""
    section = tuple(step for step in path[:-1] if isinstance(step, str))
    key = str(path[-1])
    written = find_written(layers, path)
    in_file = not section and written is not None and written[0].kind == "file"
    keys = [*sections()[section].model_fields, *(FILE_KEYS if in_file else ())]
    where = f" in `{dotted(path[:-1])}`" if section else ""
    hint = _suggest(section, key, keys)
    if key in FILE_KEYS or key not in EXPLAINED_KEYS:
        hint += _list(section, keys)
    mark, message = mark_key(layers, path), f"unknown key `{key}`{where}"
    return Mistake(mark, message, hint, is_secret=key in SECRET_KEYS)


def _suggest(section: SectionPath, key: str, keys: Sequence[str]) -> str:
    """What to do about the key; empty where nobody can know. Sure knowledge goes first."""
    if key in FILE_KEYS:
        return f"`{key}` stands at the top of a recipe file and nowhere else; "
    if key in EXPLAINED_KEYS:
        return EXPLAINED_KEYS[key]
    elsewhere = [(*path, key) for path, model in sections().items() if key in model.model_fields]
    if not elsewhere and key in RENAMED_KEYS:
        elsewhere = [tuple(RENAMED_KEYS[key].split("."))]
    if elsewhere:
        return f"write it as {' or '.join(_place(section, path) for path in elsewhere)}; "
    if nearest := difflib.get_close_matches(key, keys, n=1):
        return f"did you mean `{nearest[0]}`? "
    return _suggest_elsewhere(section, key)


def _suggest_elsewhere(section: SectionPath, key: str) -> str:
    paths = [(*path, name) for path, model in sections().items() for name in model.model_fields]
    places = {path[-1]: path for path in paths}
    nearest = difflib.get_close_matches(key, places, n=1, cutoff=0.75)
    return f"did you mean {_place(section, places[nearest[0]])}? " if nearest else ""


def _place(section: SectionPath, path: SectionPath) -> str:
    """A key as it is called from a section: by its name alone where it is in the same one."""
    return f"`{path[-1]}`" if path[:-1] == section else f"`{_dotted(path)}`"


def _list(section: SectionPath, keys: Sequence[str]) -> str:
    owner = f"`{_dotted((*section, ''))[:-1]}`" if section else "a recipe"
    shown = [key for key in keys if section != ("engine",) or key not in TRTLLM_KEYS]
    more = len(keys) - len(shown)
    rest = f", and {more} options of TensorRT-LLM: `trtllm-pack explain` lists them" if more else ""
    return f"{owner} has the keys {', '.join(f'`{key}`' for key in shown)}{rest}"


def _dotted(path: SectionPath) -> str:
    """A path with `[...]` for the items of the only list of sections."""
    return dotted(path).replace("smoke.prompts.", "smoke.prompts[...].")
