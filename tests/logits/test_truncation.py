"""The first layers of checkpoints of every layout, and where each layer lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.families import expected_inventory
from pipeline.graph.inventory import check_inventory
from pipeline.parity.truncation import PER_LAYER_KEYS, first_layers, place_layer
from tests.families.fixtures import FIXTURES, NAMES
from tests.tiny_decoder import Shape, random_weights, write_checkpoint
from tests.weights.converting import plan

SHAPE = Shape(num_layers=5)
WEIGHTS = random_weights(SHAPE)
LAYOUTS = [(1, 1), (2, 1), (1, 2), (2, 2), (2, 4)]


@pytest.mark.parametrize(("tp_size", "pp_size"), LAYOUTS)
@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_first_layers_of_every_layout(
    tmp_path: Path, tp_size: int, pp_size: int, num_layers: int
) -> None:
    folder = write_checkpoint(tmp_path / "c", SHAPE, WEIGHTS, tp_size, pp_size, shard_embedding=0)
    whole = open_trtllm_checkpoint(folder)
    cut = first_layers(whole, num_layers)
    check_inventory(cut)  # all that a checkpoint of so many layers holds, and nothing else
    assert cut.config["num_hidden_layers"] == num_layers
    assert cut.parallelism == (tp_size, 1)
    assert len(cut.ranks) == tp_size
    for layer in range(num_layers):
        place = place_layer(whole.config, layer)
        for tp_rank, tensors in enumerate(cut.ranks):
            found = tensors[f"transformer.layers.{layer}.mlp.fc.weight"]
            assert found.file == place.files[tp_rank]
            assert found.name == f"transformer.layers.{place.local}.mlp.fc.weight"


def test_the_whole_checkpoint_stays_as_it_is(tmp_path: Path) -> None:
    whole = open_trtllm_checkpoint(write_checkpoint(tmp_path / "c", SHAPE, WEIGHTS, 1, 2))
    assert first_layers(whole, 5) is whole


def test_a_layer_is_told_with_its_files() -> None:
    config = SHAPE.config(tp_size=2, pp_size=2)
    assert str(place_layer(config, 3)) == (
        "`transformer.layers.0` of `rank2.safetensors`, `rank3.safetensors`"
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_list_of_a_target_with_an_item_for_each_layer_is_cut(name: str) -> None:
    """Whatever the families write; a class whose layers differ needs more than their number."""
    config = plan(FIXTURES / name, dtype="float32").config
    total = config["num_hidden_layers"]
    lists = {key for key, value in config.items() if isinstance(value, list)}
    lists -= {
        f"longrope_scaling_{kind}_factors" for kind in ("short", "long")
    }  # for each rotary dim
    assert {key for key in lists if len(config[key]) == total} <= set(PER_LAYER_KEYS)


@pytest.mark.parametrize("name", NAMES)
def test_first_layers_of_every_family_have_their_inventory(name: str, tmp_path: Path) -> None:
    from tests.families.executing import converted

    whole = converted(name, tmp_path)
    cut = first_layers(whole, 1)
    check_inventory(cut)
    assert set(cut.ranks[0]) == set(expected_inventory(cut.config, 0))
    assert len(cut.ranks[0]) < len(whole.ranks[0])
