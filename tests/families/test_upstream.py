"""Our rank files and configs against what TensorRT-LLM's own converter wrote.

`upstream.json` was recorded once, outside of this project, by running that converter on the stored
checkpoints (docs/families.md says which sources of it). For each checkpoint: its config, a digest
of each rank file per layout, and what is left out because ours differs, with the reasons.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.families import find_family
from pipeline.weights.attention_windows import ATTENTION_WINDOWS
from pipeline.weights.rules import Make, Part
from tests.families.digests import rank_digest
from tests.families.fixtures import FIXTURES, NAMES, open_fixture
from tests.weights.converting import convert, plan

UPSTREAM: dict[str, Any] = json.loads((Path(__file__).parent / "upstream.json").read_text())
UNCOMPARED = UPSTREAM["not compared"]
RECORDED = UPSTREAM["checkpoints"]
LATER_KEYS = UPSTREAM["keys of later states"]
"""Config keys that only some states of 1.x know, with the value that they have by default."""


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested objects with its path."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from flat(item, f"{path}.{key}" if path else key)
    else:
        yield path, value


def test_every_checkpoint_is_recorded_or_known_not_to_be() -> None:
    assert RECORDED.keys() | UNCOMPARED.keys() == set(NAMES)
    assert len(RECORDED) > 60
    assert sum(len(entry["layouts"]) for entry in RECORDED.values()) > 110


@pytest.mark.parametrize("name", RECORDED)
def test_rank_files(name: str, tmp_path: Path) -> None:
    entry = RECORDED[name]
    for layout, digests in entry["layouts"].items():
        tp_size, pp_size = map(int, layout.split(" x "))
        made = plan(FIXTURES / name, tp_size, pp_size, entry["config"]["dtype"])
        out = convert(made, FIXTURES / name, tmp_path / layout)
        found = [
            rank_digest(out / f"rank{number}.safetensors", entry["left out"])
            for number in range(len(digests))
        ]
        assert found == digests, layout


@pytest.mark.parametrize("name", RECORDED)
def test_configs(name: str) -> None:
    """Every key that it writes has the same value in ours, unless a reason is recorded."""
    entry = RECORDED[name]
    ours = dict(flat(plan(FIXTURES / name, dtype=entry["config"]["dtype"]).config))
    for key, value in flat(entry["config"]):
        if key not in entry["config differs"] and key not in LATER_KEYS:
            assert ours.get(key, "absent") == value, key
    assert all(entry["config differs"].values())
    assert all(entry["left out"].values())


@pytest.mark.parametrize("name", RECORDED)
def test_one_key_is_our_own(name: str) -> None:
    """Beside keys of TensorRT-LLM's classes a config has the windows of a model, if it has any."""
    made = plan(FIXTURES / name)
    known = {"architecture", "dtype", *made.family.model_class.keys, "mapping", "quantization"}
    known |= {"use_parallel_embedding", "embedding_sharding_dim"}
    assert made.config.keys() - known <= {ATTENTION_WINDOWS}
    assert ATTENTION_WINDOWS not in RECORDED[name]["config"]


def test_exchanged_sources_of_one_shape_are_noticed(tmp_path: Path) -> None:
    """Rules that are wrong in themselves: gate for up, keys for values, one norm for the other."""
    digests = RECORDED["llama"]["layouts"]["1 x 1"]
    source = open_fixture("llama")
    family = find_family(source.architecture)
    norms = ("input_layernorm", "post_attention_layernorm")
    for one, other in (("gate_proj", "up_proj"), ("k_proj", "v_proj"), norms):
        rules = [
            dataclasses.replace(
                rule, parts=tuple(_exchanged(part, one, other) for part in rule.sources)
            )
            if isinstance(rule, Make)
            else rule
            for rule in family.weight_map
        ]
        wrong = dataclasses.replace(family, weight_map=tuple(rules))
        out = convert(plan(FIXTURES / "llama", family=wrong), FIXTURES / "llama", tmp_path / one)
        assert [rank_digest(out / "rank0.safetensors")] != digests


def _exchanged(part: Part, one: str, other: str) -> Part:
    words = [{one: other, other: one}.get(word, word) for word in part.source.split(".")]
    return dataclasses.replace(part, source=".".join(words))
