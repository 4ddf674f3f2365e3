"""ONNX files and folders through the real command: text, JSON, and what `--strict` makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.graph.decoder import write_decoder
from pipeline.inspection import inspect_path, inspection_text
from pipeline.inspection.onnx_finding import GUIDE
from tests.command import run_command
from tests.inspection.onnx_parts import attention, in_parts, written
from tests.tiny_decoder import Shape, random_weights, write_checkpoint


def test_the_text(tmp_path: Path) -> None:
    document = inspect_path(written(in_parts("late scale"), tmp_path))
    assert (
        inspection_text(document).replace(f"{tmp_path}/", "")
        == f"""\
path                  model.onnx
kind                  ONNX model
bytes                 430
producer              tests
opset                 18
ir version            8
functions             -
findings              1
external data faults  -
external data         -

opsets
  ai.onnx  18

attention
  sites  1
  kinds
    MatMul, Softmax, MatMul  1
  in TensorRT
    fused, at risk  1

findings
  late scale: risk
    what        scores are scaled after the first product
    why         the scale belongs to the query or the key, before the product
    hint        multiply the query by it, or both by its root
    known from  {GUIDE}
    times       1
    nodes       scores

attention sites
  site    kind                     dtype    heads  head size  in TensorRT     because
  shares  MatMul, Softmax, MatMul  float16      4         64  fused, at risk  late scale

weights
  tensors  4
  bytes    14

inputs
  name  dtype    dims
  q     float16  [1, 4, 32, 64]
  k     float16  [1, 4, 32, 64]
  v     float16  [1, 4, 32, 64]

outputs
  name  dtype    dims
  o     float16  [1, 4, 32, 64]

operators
  domain   operator   nodes
  ai.onnx  MatMul         2
  ai.onnx  Mul            1
  ai.onnx  Softmax        1
  ai.onnx  Transpose      1"""
    )


def test_strict_fails_on_any_finding(tmp_path: Path) -> None:
    good = written(attention(is_causal=1), tmp_path, "good.onnx")
    bad = written(attention(softcap=30.0), tmp_path, "bad.onnx")
    for path, strict, code in ((good, True, 0), (bad, True, 6), (bad, False, 0)):
        done = run_command("inspect", path, "--json", *(["--strict"] if strict else []))
        assert done.returncode == code, done.stderr
        document = json.loads(done.stdout)
        assert document["kind"] == "ONNX model"
        assert [row["finding"] for row in document["findings"]] == (
            ["softcap: refused"] if path == bad else []
        )


def test_strict_is_for_onnx_files(tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text("name: it\nsource: {path: source}\n")
    done = run_command("inspect", tmp_path / "it.yaml", "--strict")
    assert done.returncode == 2
    assert done.stderr.startswith("error: `--strict` is for ONNX files, but ")
    assert done.stdout == ""


def test_a_damaged_file_is_one_error(tmp_path: Path) -> None:
    path = written(in_parts(), tmp_path)
    path.write_bytes(path.read_bytes()[:300])
    done = run_command("inspect", path)
    assert done.returncode == 6
    assert done.stderr.startswith(f"error: `{path}` is not a whole ONNX model: ")
    assert "\nhint: fetch or export this file again" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_with_one_file(tmp_path: Path) -> None:
    written(attention(), tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    document = inspect_path(tmp_path)
    assert (document["kind"], document["file"]) == ("ONNX model", "model.onnx")


def test_a_folder_with_several_files(tmp_path: Path) -> None:
    written(attention(), tmp_path, "decoder_model.onnx")
    written(attention(softcap=2.0), tmp_path, "decoder_with_past_model.onnx")
    document = inspect_path(tmp_path)
    assert (document["kind"], document["num_findings"]) == ("ONNX models", 1)
    assert document["decoder_model.onnx"]["findings"] == []
    assert "  softcap: refused" in inspection_text(document)


@pytest.mark.parametrize(
    ("form", "dtype", "verdict", "traps"),
    [
        ("mask", "bfloat16", "fused", []),
        ("mask", "float16", "fused", []),
        ("mask", "float32", "refused", ["dtype: refused"]),
        # The parser would drop the input of lengths.
        ("lengths", "bfloat16", "wrong", ["lengths: wrong"]),
    ],
)
def test_our_own_decoder(
    tmp_path: Path, form: Any, dtype: str, verdict: str, traps: list[str]
) -> None:
    write_checkpoint(tmp_path, Shape(), random_weights(Shape()), tp_size=2)
    write_decoder(
        open_trtllm_checkpoint(tmp_path),
        tmp_path / "decoder.onnx",
        max_seq_len=24,
        compute_dtype=dtype,
        form=form,
    )
    document = inspect_path(tmp_path / "decoder.onnx")
    assert document["attention"]["in TensorRT"] == {verdict: 3}
    assert [row["finding"] for row in document["findings"]] == traps
    assert document["external data faults"] == []
    assert {row["file"] for row in document["external data"]} == {
        "rank0.safetensors",
        "rank1.safetensors",
    }
    assert {(row["heads"], row["head_size"]) for row in document["attention sites"]} == {(6, 16)}


def test_long_lists_are_cut_for_people_alone() -> None:
    names = [f"node.{number}" for number in range(20)]
    text = inspection_text({"path": "it", "nodes": names})
    assert text.splitlines()[-2:] == ["  node.10", "  and 9 more"]
