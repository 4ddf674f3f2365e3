"""No key of a config.json is passed over: changed, it changes the target, or it is refused.

The only others are keys that the family lists as inert, and those that the plan decides from.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from pipeline.errors import PipelineError, RecipeError
from pipeline.families import find_family
from pipeline.weights.config_translation import Translation, translate
from pipeline.weights.parallel import Parallelism
from tests.families.fixtures import NAMES, open_fixture

# Said of a key that is named twice: the second spelling must agree, and is compared only then.
FREE = ("inert", "decided by the plan")


def translated(config: dict[str, Any], architecture: str) -> Translation:
    family = find_family(architecture)
    given = {
        "architecture": family.writes_architecture or architecture,
        "dtype": "bfloat16",
        "mapping": Parallelism().mapping(),
        "quantization": {},
        "use_parallel_embedding": False,
        "embedding_sharding_dim": 0,
    }
    return translate(family.config, family.model_class, config, architecture, given)


def others(value: Any) -> list[Any]:
    """Values of the same type that mean something else."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value * 2 + 6]
    if isinstance(value, float):
        return [value * 1.5 + 0.25]
    if isinstance(value, str):
        return [f"{value}_other"]
    if isinstance(value, list):
        return [[*value, 1]]
    if isinstance(value, dict):
        return [{**value, "an_unknown_key": 1}]
    return [7, "text"]


@pytest.mark.parametrize("name", NAMES)
def test_every_key_counts(name: str) -> None:
    source = open_fixture(name)
    before = translated(dict(source.config), source.architecture)
    passed_over = []
    for key, value in source.config.items():
        use = before.ledger[key]["use"]
        if key == "architectures" or use in FREE:
            continue
        for other in others(value):
            try:
                after = translated({**source.config, key: other}, source.architecture)
            except RecipeError:
                continue
            if after.facts == before.facts and use != "limits the sequence length":
                passed_over.append(f"{key}: {other!r} instead of {value!r} ({use})")
    assert not passed_over


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_key_is_refused_by_name(name: str) -> None:
    source = open_fixture(name)
    config = {**source.config, "an_unknown_key": None}
    with pytest.raises(RecipeError, match="unknown key `an_unknown_key`"):
        translated(config, source.architecture)


@pytest.mark.parametrize("name", NAMES)
def test_values_of_a_wrong_type_are_refused_and_never_crash(name: str) -> None:
    source = open_fixture(name)
    for key in source.config:
        for wrong in (None, [], {}, "text", -1, 0, 1e400, True, [None], {"a": 1}):
            # Whatever it is: translated, or an error of ours.
            with contextlib.suppress(PipelineError):
                translated({**source.config, key: wrong}, source.architecture)
