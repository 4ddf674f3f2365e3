"""TensorRT-LLM checkpoints: config.json and exactly its rank files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.errors import VerificationError
from tests import tiny

CONFIG: dict[str, Any] = {
    "architecture": "LlamaForCausalLM",
    "dtype": "float16",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mapping": {"world_size": 4, "tp_size": 2, "pp_size": 2},
}


def write(folder: Path, config: Any, ranks: int = 4) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    for rank in range(ranks):
        array = np.full((2,), rank, np.float16)
        tiny.write_weights(folder / f"rank{rank}.safetensors", {"w": array})
    return folder


def test_all_ranks_are_opened_in_order(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", CONFIG)
    (folder / "ledger.json").write_text("{}")
    checkpoint = open_trtllm_checkpoint(folder)
    assert checkpoint.parallelism == (2, 2)
    assert [rank["w"].file for rank in checkpoint.ranks] == [
        f"rank{rank}.safetensors" for rank in range(4)
    ]
    assert checkpoint.weight_bytes == 16


def test_a_config_without_a_mapping_is_one_rank(tmp_path: Path) -> None:
    config = {key: value for key, value in CONFIG.items() if key != "mapping"}
    assert open_trtllm_checkpoint(write(tmp_path / "c", config, ranks=1)).parallelism == (1, 1)


@pytest.mark.parametrize("ranks", [3, 5])
def test_the_rank_files_must_be_those_of_the_config(ranks: int, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="do not fit") as caught:
        open_trtllm_checkpoint(write(tmp_path / "c", CONFIG, ranks=ranks))
    expected = {3: "`rank3.safetensors` is missing", 5: "`rank4.safetensors` is not a rank of 4"}
    assert list(caught.value.facts) == [expected[ranks]]


@pytest.mark.parametrize(
    "mapping",
    [
        {"world_size": 3, "tp_size": 2, "pp_size": 2},
        {"world_size": 4, "tp_size": 2, "pp_size": 2, "cp_size": 2},
        {"world_size": "4"},
        {"tp_size": 0},
        {"tp_size": True},
        [],
        {"world_size": 10**12, "tp_size": 10**12},
    ],
)
def test_a_mapping_that_makes_no_sense(mapping: Any, tmp_path: Path) -> None:
    with pytest.raises(VerificationError):
        open_trtllm_checkpoint(write(tmp_path / "c", {**CONFIG, "mapping": mapping}))


def test_what_is_not_such_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="not a TensorRT-LLM checkpoint"):
        open_trtllm_checkpoint(tmp_path / "nothing")
    source = tiny.write_checkpoint(tmp_path / "source")
    with pytest.raises(VerificationError, match="no `architecture`, `dtype`"):
        open_trtllm_checkpoint(source)
