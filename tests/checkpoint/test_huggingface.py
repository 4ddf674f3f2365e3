"""Source checkpoints: config, index and headers must agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.huggingface import (
    INDEX_NAME,
    SourceCheckpoint,
    assemble,
    open_source_checkpoint,
    parse_index,
)
from pipeline.errors import VerificationError
from tests import tiny


def rewrite_index(folder: Path, **changes: str | None) -> None:
    """Change entries of the index; None removes one."""
    path = folder / INDEX_NAME
    index = json.loads(path.read_bytes())
    for name, file in changes.items():
        if file is None:
            del index["weight_map"][name]
        else:
            index["weight_map"][name] = file
    path.write_text(json.dumps(index))


@pytest.mark.parametrize("num_files", [1, 2, 5])
def test_a_checkpoint_is_opened_whole(num_files: int, tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(tmp_path / "source", num_files=num_files)
    source = open_source_checkpoint(folder)
    assert source.architecture == "LlamaForCausalLM"
    assert len(source.weight_files) == num_files
    assert {name: info.shape for name, info in source.tensors.items()} == tiny.shapes(tiny.CONFIG)
    assert source.weight_bytes == sum(array.nbytes for array in tiny.tensors().values())


def test_other_safetensors_files_than_those_of_the_index_are_not_read(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(tmp_path / "source")
    (folder / "consolidated.safetensors").write_bytes(b"not even a header")
    assert len(open_source_checkpoint(folder).weight_files) == 2
    single = tiny.write_checkpoint(tmp_path / "single", num_files=1)
    (single / "adapter.safetensors").write_bytes(b"")
    assert open_source_checkpoint(single).weight_files == ("model.safetensors",)


def test_an_index_that_disagrees_is_told_with_all_names(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(tmp_path / "source")
    first = "model-00001-of-00002.safetensors"
    rewrite_index(
        folder,
        **{
            "model.extra.weight": first,
            "model.norm.weight": None,
            "model.layers.0.mlp.up_proj.weight": first,
            "model.layers.1.mlp.up_proj.weight": first,
        },
    )
    with pytest.raises(VerificationError, match="1 missing, 1 unlisted, ") as caught:
        open_source_checkpoint(folder)
    told = "\n".join(caught.value.facts)
    assert f"`model.extra.weight` is not in `{first}`" in told
    assert "`model.norm.weight` of `model-0000" in told
    assert "up_proj.weight` is in `model-00002-of-00002.safetensors`, not in" in told


def test_a_tensor_in_two_weight_files_is_refused(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(tmp_path / "source")
    (folder / INDEX_NAME).unlink()
    norm = {"model.norm.weight": np.ones(48, np.float32)}
    tiny.write_weights(folder / "model-00003-of-00003.safetensors", norm)
    with pytest.raises(VerificationError, match="two weight files") as caught:
        open_source_checkpoint(folder)
    assert caught.value.facts[0].startswith("`model.norm.weight` is in `model-0000")


def test_a_weight_file_that_the_index_names_is_missing(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(tmp_path / "source")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(VerificationError, match=r"`model-00002-of-00002\.safetensors` is missing"):
        open_source_checkpoint(folder)


def test_no_config_and_no_weights(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"no `config\.json`"):
        open_source_checkpoint(tmp_path / "nothing")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(VerificationError, match="no safetensors") as caught:
        open_source_checkpoint(tmp_path)
    assert caught.value.hint is not None
    assert "pickle" in caught.value.hint


@pytest.mark.parametrize(
    ("weight_map", "reason"),
    [
        (None, "no `weight_map`"),
        ({}, "no `weight_map`"),
        ([], "no `weight_map`"),
        ({"a": 1}, "not a text"),
        ({"a": "../b.safetensors"}, "path out of the folder"),
        ({"a": "/b.safetensors"}, "path out of the folder"),
        ({"a": "sub/b.safetensors"}, "lies beside its index"),
        ({"a": "sub\\b.safetensors"}, "lies beside its index"),
        ({"a": ".b.safetensors"}, "lies beside its index"),
        ({"a": "b.bin"}, "not a safetensors file"),
        ({"a": "b\x00.safetensors"}, "control or invisible"),
        ({"": "b.safetensors"}, "name is empty"),
        ({"a\x1b": "b.safetensors"}, "control or invisible"),
    ],
)
def test_a_hostile_index_is_refused(weight_map: Any, reason: str) -> None:
    with pytest.raises(VerificationError) as caught:
        parse_index(json.dumps({"weight_map": weight_map}).encode())
    assert reason in "\n".join([caught.value.message, *caught.value.facts])


@pytest.mark.parametrize("names", [None, [], ["A", "B"], "LlamaForCausalLM", [1]])
def test_the_architecture_must_be_one(names: Any) -> None:
    source = SourceCheckpoint({"architectures": names}, {}, ())
    with pytest.raises(VerificationError, match="does not name one architecture"):
        _ = source.architecture


def test_a_config_with_a_repeated_key_is_refused(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(tmp_path / "source", num_files=1)
    headers = {"model.safetensors": dict(open_source_checkpoint(folder).tensors)}
    with pytest.raises(VerificationError, match="repeated key `rope_theta`"):
        assemble(b'{"rope_theta": 1e4, "rope_theta": 5e5}', None, headers)
