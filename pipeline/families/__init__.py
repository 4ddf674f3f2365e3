"""Model families: one data-only file each, found by being in this folder.

To add one, write `<name>.py` with `FAMILY = Family(...)`. It imports a model class and the rule
types of `pipeline.weights`, nothing else. The tests run over every family that is here.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache

from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import printable
from pipeline.errors import PipelineError, RecipeError
from pipeline.weights import inventory
from pipeline.weights.family import Family
from pipeline.weights.upstream import DECODERS

__all__ = ["Family", "all_families", "expected_inventory", "find_family"]


@cache
def all_families() -> tuple[Family, ...]:
    """Every family of this folder, by file name."""
    return tuple(_load(name) for name in _names())


def _names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def _load(name: str) -> Family:
    family = importlib.import_module(f"{__name__}.{name}").FAMILY
    assert isinstance(family, Family), name
    return family


def _naming(architecture: str) -> list[str]:
    """Families whose files have the architecture's name: the others need not be imported."""
    wanted = f'"{architecture}"'.encode()
    return [
        name for name in _names() if wanted in (pkgutil.get_data(__name__, f"{name}.py") or b"")
    ]


def find_family(architecture: str) -> Family:
    """The family that converts an architecture (the exact string of config.json).

    Raises RecipeError with the known ones, the nearest first, where there is none.
    """
    for name in _naming(architecture):
        family = _load(name)
        if architecture in family.architectures:
            return family
    known = by_architecture(all_families())
    near = difflib.get_close_matches(architecture, known, 3)
    listed = ", ".join(f"`{name}`" for name in [*near, *sorted(known.keys() - set(near))])
    upstream = (
        "TensorRT-LLM 1.2 has a class for it, but there is no family file for it here"
        if architecture in DECODERS
        else "TensorRT-LLM 1.2 has no class for it either"
    )
    raise RecipeError(
        f"the architecture `{printable(architecture)}` is not supported: {upstream}",
        facts=[f"supported: {listed}"],
        hint="see CONTRIBUTING.md for how to add a family",
    )


def by_architecture(families: Iterable[Family]) -> dict[str, Family]:
    """Families by the architectures that they claim. Raises PipelineError where two claim one."""
    known: dict[str, Family] = {}
    for family in families:
        for architecture in family.architectures:
            first = known.setdefault(architecture, family)
            if first is not family:
                raise PipelineError(
                    f"the families `{first.name}` and `{family.name}` both claim `{architecture}`"
                )
    return known


def expected_inventory(
    config: Mapping[str, Json], rank: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Target name -> (dtype, shape) of all that a rank file must hold, by a target's config.json.

    What TensorRT-LLM 1.2 requires; a tensor that is left out would be filled with random values.
    """
    model_class = find_family(config["architecture"]).model_class
    return inventory.expected_inventory(model_class.parameters, model_class.completed(config), rank)
