"""Checkpoints of real transformers classes (made by tests/parity/make_fixtures.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from pipeline.checkpoint.huggingface import open_source_checkpoint
from pipeline.errors import RecipeError
from pipeline.families import all_families, expected_inventory, find_family
from pipeline.progress import Silent
from pipeline.weights.layout import plan_conversion, resolve_dtype
from pipeline.weights.parallel import Parallelism
from pipeline.weights.roundtrip import compare
from tests.weights.converting import assert_as_oracle, convert, plan, read_ranks

FIXTURES = Path(__file__).parent.parent / "fixtures"
NAMES = sorted(path.name for path in FIXTURES.iterdir())


def load_all(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        arrays |= load_file(path)
    return arrays


def test_there_are_fixtures_of_every_architecture() -> None:
    found = {open_source_checkpoint(FIXTURES / name).architecture for name in NAMES}
    claimed = {name for family in all_families() for name in family.architectures}
    assert found == claimed
    assert len(NAMES) >= 9


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float16", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_fixtures_convert_and_come_back(name: str, dtype: str, tmp_path: Path) -> None:
    source = FIXTURES / name
    checkpoint = open_source_checkpoint(source)
    resolved = resolve_dtype(dtype, checkpoint)
    family = find_family(checkpoint.architecture)
    for number, (tp_size, pp_size) in enumerate([(1, 1), (2, 2)]):
        made = plan_conversion(checkpoint, family, Parallelism(tp_size, pp_size), resolved)
        out = convert(made, source, tmp_path / f"out{number}")
        assert_as_oracle(out, load_all(source), checkpoint.config, tp_size, pp_size, resolved)
        record = compare(made, source, out, Silent())
        if dtype == "auto":
            assert record["cast_tensors"] == 0
            assert record["exact_tensors"] == len(checkpoint.tensors)


@pytest.mark.parametrize("name", NAMES)
def test_rank_files_are_what_the_loader_requires(name: str, tmp_path: Path) -> None:
    out = convert(plan(FIXTURES / name, 2, 2), FIXTURES / name, tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    for rank, arrays in enumerate(read_ranks(out)):
        found = {key: (str(value.dtype), value.shape) for key, value in arrays.items()}
        assert found == expected_inventory(config, rank)


@pytest.mark.parametrize("name", [n for n in NAMES if (FIXTURES / n / "config-v4.json").exists()])
def test_both_spellings_of_a_config_make_the_same(name: str, tmp_path: Path) -> None:
    """transformers 4 and 5 write other keys for the same model: the targets are equal."""
    older = Path(shutil.copytree(FIXTURES / name, tmp_path / "source"))
    (older / "config-v4.json").replace(older / "config.json")
    assert "rope_parameters" not in json.loads((older / "config.json").read_text())
    one, other = plan(FIXTURES / name, 2), plan(older, 2)
    assert json.dumps(one.config) == json.dumps(other.config)
    assert one.ranks == other.ranks


def test_the_rope_of_a_fixture_is_passed_on() -> None:
    made = plan(FIXTURES / "llama3-rope")
    assert made.config["rotary_base"] == 500000.0
    assert made.config["rotary_scaling"] == {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }


def test_a_window_is_told_apart_from_full_attention() -> None:
    for name, window in {"mistral": None, "mistral-window": 32, "llama": None}.items():
        source = open_source_checkpoint(FIXTURES / name)
        assert find_family(source.architecture).attention_window(source.config) == window


def test_tp_that_does_not_fit_is_refused_with_those_that_do() -> None:
    with pytest.raises(RecipeError, match=r"`checkpoint\.tp_size` is 4") as caught:
        plan(FIXTURES / "mistral", 4)
    assert caught.value.hint == "tp sizes that work for this model: 1, 2"
