"""External data: every weight must lie inside a file beside the graph, whole and by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto

from pipeline.inspection import inspect_path
from pipeline.onnx_files.external import external_bytes, external_faults, external_files
from pipeline.onnx_files.reading import parse_model
from pipeline.onnx_files.record import graph_record
from tests.inspection.onnx_parts import HALF, attention, in_parts, model

SIZES = {"a.bin": 100, "sub/b.bin": 64}


def outside(name: str, dims: Sequence[int], dtype: int = HALF, **place: Any) -> onnx.TensorProto:
    """A weight as external data, `location` `a.bin` unless one is given."""
    tensor = TensorProto(name=name, data_type=dtype, data_location=TensorProto.EXTERNAL)
    tensor.dims.extend(dims)
    for key, text in ({"location": "a.bin"} | place).items():
        tensor.external_data.add(key=key, value=str(text))
    return tensor


def faults(*weights: onnx.TensorProto) -> list[str]:
    """What is wrong with these weights, in files of `SIZES`."""
    made = parse_model(model([], [], [], constants=weights).SerializeToString(), "it")
    return external_faults(made, SIZES.get)


GOOD = {
    "whole": [outside("w", [50], offset=0, length=100)],
    "without offset": [outside("w", [4], length=8)],
    "up to the end": [outside("w", [10], offset=80)],
    "side by side": [outside("w", [10], offset=0, length=20), outside("v", [2], offset=20)],
    "the same twice": [outside(n, [10], offset=4, length=20) for n in "wv"],
    "one in another": [
        outside("w", [50], offset=0, length=100),
        outside("v", [4], offset=20, length=8),
    ],
    "below a folder": [outside("w", [32], location="sub/b.bin")],
    "packed": [outside("w", [5], TensorProto.INT4, offset=3, length=3)],
    "empty": [outside("w", [0], offset=100, length=0)],
    "bfloat16": [outside("w", [2, 3], TensorProto.BFLOAT16, offset=2, length=12)],
}
GOOD["side by side"][1].external_data.add(key="length", value="4")


@pytest.mark.parametrize("weights", GOOD.values(), ids=GOOD)
def test_what_is_right(weights: list[onnx.TensorProto]) -> None:
    assert faults(*weights) == []


MAY = "so that it may lie outside the folder"
BAD = {
    "missing": (
        [outside("w", [2], location="c.bin", length=4)],
        ["external data `c.bin` is missing"],
    ),
    "nameless": (
        [outside("w", [2], location="", length=4)],
        ["external data `` is not a relative name, so that it may lie outside the folder"],
    ),
    "above": (
        [outside("w", [2], location="../a.bin", length=4)],
        ["external data `../a.bin` has a part `..`, so that it may lie outside the folder"],
    ),
    "absolute": (
        [outside("w", [2], location="/etc/passwd", length=4)],
        [f"external data `/etc/passwd` is not a relative name, {MAY}"],
    ),
    "of Windows": (
        [outside("w", [2], location="C:\\a.bin", length=4)],
        ["external data `C:\\a.bin` is a Windows path, so that it may lie outside the folder"],
    ),
    "too long": (
        [outside("w", [50], offset=2, length=100)],
        ["weight `w` ends at byte 102 of `a.bin`, which has 100"],
    ),
    "beyond": (
        [outside("w", [2], offset=200, length=4)],
        ["weight `w` ends at byte 204 of `a.bin`, which has 100"],
    ),
    "other length": (
        [outside("w", [3, 2], offset=0, length=24)],
        ["weight `w` has 24 bytes, but [3, 2] of float16 are 12"],
    ),
    "not up to the end": (
        [outside("w", [10], offset=60)],
        ["weight `w` has 40 bytes, but [10] of float16 are 20"],
    ),
    "no number": (
        [outside("w", [2], offset="-4", length="4")],
        ["weight `w` has the offset `-4` and the length `4`, not byte counts"],
    ),
    "between values": (
        [outside("w", [2], offset=3, length=4)],
        ["weight `w` begins at byte 3, which is no multiple of its 2 bytes a value"],
    ),
    "crossing": (
        [outside("w", [10], offset=0, length=20), outside("v", [10], offset=18, length=20)],
        ["weights `w` and `v` cross in `a.bin`, at bytes 18 to 20"],
    ),
}


@pytest.mark.parametrize(("weights", "told"), BAD.values(), ids=BAD)
def test_what_is_wrong(weights: list[onnx.TensorProto], told: list[str]) -> None:
    assert faults(*weights) == told


def test_constants_of_nodes_count_too() -> None:
    node = onnx.helper.make_node("Constant", [], ["c"], value=outside("", [2], location="c.bin"))
    made = parse_model(model([node], [], []).SerializeToString(), "it")
    assert external_files(made) == ("c.bin",)
    assert external_faults(made, SIZES.get) == ["external data `c.bin` is missing"]


def test_shared_bytes_count_once() -> None:
    weights = [*GOOD["the same twice"], outside("u", [20], offset=20, length=40)]
    made = parse_model(model([], [], [], constants=weights).SerializeToString(), "it")
    assert external_bytes(made, "a.bin") == 56


def test_a_file_outside_of_the_folder_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(4))
    folder = tmp_path / "folder"
    folder.mkdir()
    made = model([], [], [], constants=[outside("w", [2], location="../secret", length=4)])
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    document = inspect_path(folder)
    assert document["external data"] == [
        {"file": "../secret", "size_bytes": None, "weight_bytes": 0}
    ]
    assert len(document["external data faults"]) == 1
    assert document["num_findings"] == 1


def test_the_record_of_a_graph() -> None:
    made = attention(is_causal=1)
    made.graph.initializer.append(outside("w", [10], location="a.bin", offset=0, length=20))
    record = graph_record(parse_model(made.SerializeToString(), "it"), SIZES.get)
    port = {"dtype": "float16", "dims": [1, 4, 32, 64]}
    assert record == {
        "opset": 24,
        "opsets": {"ai.onnx": 24},
        "ir_version": 11,
        "producer": "tests",
        "op_counts": {"ai.onnx": {"Attention": 1}},
        "attention_nodes": 1,
        "inputs": [{"name": name, **port} for name in "qkv"],
        "outputs": [{"name": "o", **port}],
        "external_data": [{"file": "a.bin", "size_bytes": 100, "weight_bytes": 20}],
    }


def test_parts_are_no_attention_nodes() -> None:
    record = graph_record(parse_model(in_parts().SerializeToString(), "it"), SIZES.get)
    assert record["attention_nodes"] == 0
    assert record["op_counts"]["ai.onnx"]["MatMul"] == 2
