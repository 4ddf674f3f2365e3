"""Inspect: each kind of file or folder explained, in full, from headers and records alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoint.safetensors_file import encode_header
from pipeline.errors import MachineError, PipelineError, UsageError, VerificationError
from pipeline.inspection import inspect_path, inspection_text
from pipeline.store import Store
from tests.release.made import made_before, release_in
from tests.tiny_source import checkpoint_files


def shown(path: Path) -> str:
    """The text for people, without what the test's folder is called."""
    document = inspect_path(path)
    assert json.loads(json.dumps(document)) == document
    return inspection_text(document).replace(f"{path.parent}/", "")


def write_weights(path: Path, *tensors: tuple[str, str, tuple[int, ...]], num_bytes: int) -> None:
    path.write_bytes(encode_header(tensors) + bytes(num_bytes))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name, data in checkpoint_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 40,
        "num_hidden_layers": 3,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    config = {
        "architecture": "LlamaForCausalLM",
        "dtype": "bfloat16",
        "hidden_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "mapping": {"world_size": 2, "tp_size": 2, "pp_size": 1},
    }
    (folder / "config.json").write_text(json.dumps(config))
    for rank in range(2):
        tensors = (("a", "bfloat16", (4, 8)), ("b", "float32", (2,)))
        write_weights(folder / f"rank{rank}.safetensors", *tensors, num_bytes=72)
    return folder


def test_a_source_checkpoint(source: Path) -> None:
    assert (
        shown(source)
        == """\
path             source
kind             source checkpoint
architecture     LlamaForCausalLM
family           llama
tokenizer files  tokenizer.json, tokenizer_config.json
licence files    LICENSE

model
  hidden size          40
  hidden layers        3
  tie word embeddings  no

weights
  tensors     3
  parameters  200,016
  bytes       400,032

dtypes
  dtype     tensors  parameters    bytes
  bfloat16        3     200,016  400,032

weight files
  name                              tensors    bytes
  model-00001-of-00002.safetensors        2  400,160
  model-00002-of-00002.safetensors        1      104"""
    )


def test_code_and_an_unknown_architecture_are_said(source: Path) -> None:
    config = {"architectures": ["NoSuchModel"], "auto_map": {"AutoModel": "modeling_tiny.Tiny"}}
    (source / "config.json").write_text(json.dumps(config))
    document = inspect_path(source)
    assert document["family"] is None
    assert "`NoSuchModel` is not supported" in document["why"]
    assert "modeling_tiny" in str(document["Python code, which is never executed"])


def test_a_trtllm_checkpoint(checkpoint: Path) -> None:
    assert (
        shown(checkpoint)
        == """\
path                checkpoint
kind                TensorRT-LLM checkpoint
architecture        LlamaForCausalLM
dtype               bfloat16
quantization        none
tp size             2
pp size             1
parallel embedding  no

model
  hidden size      40
  hidden layers    3
  attention heads  6

weights
  tensors     4
  parameters  68
  bytes       144

dtypes
  dtype     tensors  parameters  bytes
  bfloat16        2          64    128
  float32         2           4     16

ranks
  name               tensors  bytes
  rank0.safetensors        2    200
  rank1.safetensors        2    200"""
    )


def test_a_weight_file(checkpoint: Path) -> None:
    assert (
        shown(checkpoint / "rank0.safetensors")
        == """\
path   rank0.safetensors
kind   weight file
bytes  200

weights
  tensors     2
  parameters  34
  bytes       72

dtypes
  dtype     tensors  parameters  bytes
  bfloat16        1          32     64
  float32         1           2      8

tensors
  name  dtype     shape   bytes
  a     bfloat16  [4, 8]     64
  b     float32   [2]         8"""
    )


def test_an_engine(tmp_path: Path) -> None:
    built = made_before(Store(tmp_path / "store"))["build"]
    engine = tmp_path / "engine"
    engine.mkdir()
    for name in ("engine.json", "attention.json", "decoder.onnx"):
        os.link(built.path / name, engine / name)
    assert (
        shown(engine)
        == """\
path        engine
kind        engine
backend     onnxruntime
dtype       bfloat16
targets     cpu
limits      -
built with  -

attention
  built              fused
  built evidence     one kernel a layer
  observed           not observed
  observed evidence  no GPU
  requested
    context fmha   yes
    require fused  yes

files
  name            bytes
  attention.json    206
  decoder.onnx      500
  engine.json        67"""
    )


RELEASE = """\
path     {path}
kind     release
name     tiny
form     {form}
checked  the manifest and the names; `trtllm-pack verify` checks every byte
bytes    {size}
licence  LICENSE

source
  kind    local
  repo    -
  commit  -
  files   9
  bytes   113

engine
  backend  onnxruntime
  dtype    bfloat16
  targets  cpu
  built
    backend  onnxruntime

attention
  built              fused
  built evidence     one kernel a layer
  observed           not observed
  observed evidence  no GPU
  requested
    context fmha   yes
    require fused  yes

smoke
  executed by
    backend  onnxruntime
    device   cpu
    version  1.32.0
  generated
    prompt       text
    Full fathom  " five\\n# lies\\u001b[2J"

tools
  onnx  1.23.2

stage keys
"""


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_release(tmp_path: Path, form: str) -> None:
    release = release_in(tmp_path)
    path = release if form == "folder" else release.with_suffix(".tar")
    size_bytes = sum(file.stat().st_size for file in release.rglob("*") if file.is_file())
    text = shown(path)
    assert text.startswith(RELEASE.format(path=path.name, form=form, size=f"{size_bytes:,}"))
    assert "\n  tokenizer/tokenizer.json                            18\n" in text


def test_a_damaged_release(tmp_path: Path) -> None:
    release = release_in(tmp_path)
    tar = release.with_suffix(".tar")
    tar.write_bytes(tar.read_bytes().replace(b'"bfloat16"', b'"bfloat17"'))
    with pytest.raises(VerificationError, match="does not have its own digest"):
        inspect_path(tar)
    tar.write_bytes(tar.read_bytes()[:-1])
    with pytest.raises(VerificationError, match="is not sound"):
        inspect_path(tar)


@pytest.mark.parametrize("stage", ["download", "convert", "verify", "build", "smoke"])
def test_an_artifact(tmp_path: Path, source: Path, checkpoint: Path, stage: str) -> None:
    artifact = made_before(Store(tmp_path / "store"))[stage]
    if stage in {"download", "convert"}:
        # The handmade ones have no real weights: take those of a real checkpoint.
        folder = source if stage == "download" else checkpoint
        artifact = publish_folder(Store(tmp_path / "other"), stage, folder)
    document = inspect_path(artifact.path)
    assert (document["kind"], document["stage"]) == ("artifact", stage)
    assert document["key"] == artifact.key
    kinds = {
        "download": "source checkpoint",
        "convert": "TensorRT-LLM checkpoint",
        "build": "engine",
    }
    assert document.get("content", {}).get("kind") == kinds.get(stage)
    assert inspection_text(document).startswith("path ")


def publish_folder(store: Store, stage: str, folder: Path) -> Any:
    from pipeline.artifact import describe

    with store.session() as session, session.working_folder(stage, "0" * 64) as work:
        for path in folder.rglob("*"):
            if path.is_file():
                (work / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
                os.link(path, work / path.relative_to(folder))
        return session.publish(work, describe(work, stage, "0" * 64, {}, {"a": [1, 2]}))


def test_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(
        "name: tiny\nsource: {path: source}\nvariants:\n  cpu: {engine: {backend: onnxruntime}}\n"
    )
    text = shown(tmp_path / "tiny.yaml")
    assert text.startswith(
        "path      tiny.yaml\nkind      recipe\nname      tiny\nfiles     tiny.yaml\n"
        "variants  cpu\n\nwith every default\n  source\n    repo         -\n"
    )
    assert re.search(r"^    max batch size +8$", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["notes.txt", "model.gguf", "pytorch_model.bin"])
def test_anything_else_is_refused_with_what_can_be_inspected(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04pickle")
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(UsageError, match="nothing that can be inspected") as caught:
            inspect_path(path)
        assert len(caught.value.facts) == 8
    with pytest.raises(UsageError, match="does not exist"):
        inspect_path(tmp_path / "absent")


@pytest.mark.parametrize(
    "spoil",
    [
        {"config.json": b"{"},
        {"config.json": b'{"architectures": []}'},
        {"model-00002-of-00002.safetensors": b"short"},
        {"model.safetensors.index.json": b"{}"},
    ],
)
def test_a_damaged_checkpoint_is_an_error(source: Path, spoil: Mapping[str, bytes]) -> None:
    for name, data in spoil.items():
        (source / name).write_bytes(data)
    with pytest.raises(PipelineError):
        inspect_path(source)


@pytest.mark.parametrize("value", [True, -1, 1.5, "x", ["x"], [{}]])
@pytest.mark.parametrize("answer", ["requested", "built", "observed"])
def test_a_record_of_another_form(tmp_path: Path, answer: str, value: object) -> None:
    built = made_before(Store(tmp_path / "store"))["build"]
    engine = tmp_path / "engine"
    engine.mkdir()
    os.link(built.path / "engine.json", engine / "engine.json")
    (engine / "attention.json").write_text(json.dumps({answer: value}))
    if answer == "requested":
        inspect_path(engine)  # it is shown as it is
    else:
        with pytest.raises(VerificationError, match="not of the form") as error:
            inspect_path(engine)
        assert error.value.hint


@pytest.mark.parametrize("value", [True, -1, 1.5, "x", ["x"]])
def test_a_quantization_that_is_no_section(checkpoint: Path, value: object) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization": value}))
    with pytest.raises(VerificationError, match=r"`quantization` of `config\.json` is"):
        inspect_path(checkpoint)


def test_a_link_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("config.json")
    (tmp_path / "x.yaml").symlink_to("x.yaml")
    with pytest.raises((UsageError, MachineError)):
        inspect_path(tmp_path / "x.yaml")
    with pytest.raises(UsageError):
        inspect_path(tmp_path)
