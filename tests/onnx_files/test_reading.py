"""ONNX files are read whole or refused in one sentence, and their weights are never read."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.errors import PipelineError, VerificationError
from pipeline.inspection import inspect_path, inspection_text
from pipeline.onnx_files.model import dtype_bits
from pipeline.onnx_files.reading import MAX_FILE_BYTES, parse_model, read_model
from pipeline.onnx_files.wire import LARGE_BYTES, Malformed, without_values
from tests.inspection.onnx_parts import (
    HALF,
    heads,
    in_functions,
    in_parts,
    inside_condition,
    inside_loop,
    model,
    value,
    written,
)

WEIGHT_BYTES = 4 * LARGE_BYTES


def with_weights() -> onnx.ModelProto:
    """Large weights in every place that a tensor can have, and a small one."""
    large = helper.make_tensor("w", HALF, [WEIGHT_BYTES // 2], bytes(WEIGHT_BYTES), raw=True)
    floats = helper.make_tensor("f", TensorProto.FLOAT, [LARGE_BYTES], [1.5] * LARGE_BYTES)
    small = helper.make_tensor("s", TensorProto.INT64, [2], [3, 4])
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=large)],
        "then",
        [],
        [value("c", HALF, WEIGHT_BYTES // 2)],
    )
    nodes = [
        helper.make_node("Constant", [], ["k"], name="constant", value=large),
        helper.make_node("If", ["x"], ["o"], name="if", then_branch=inner, else_branch=inner),
    ]
    ports = [value("x", TensorProto.BOOL)], [value("o", HALF, WEIGHT_BYTES // 2)]
    return model(nodes, *ports, constants=[large, floats, small])


def test_large_weights_are_left_out_and_all_else_stays() -> None:
    made = with_weights()
    lean = onnx.ModelProto.FromString(without_values(made.SerializeToString()))
    assert lean.ByteSize() < LARGE_BYTES
    tensors = [
        *lean.graph.initializer,
        lean.graph.node[0].attribute[0].t,
        *(a.g.node[0].attribute[0].t for a in lean.graph.node[1].attribute),
    ]
    assert [tensor.name for tensor in tensors] == ["w", "f", "s", "w", "w", "w"]
    assert list(tensors[2].int64_data) == [3, 4]
    for tensor in made.graph.initializer[:2]:
        for name in ("raw_data", "float_data"):
            tensor.ClearField(name)
    assert lean.graph.initializer[:] == made.graph.initializer[:]
    weights = list(parse_model(with_weights().SerializeToString(), "it").weights())
    assert (
        sum(weight.num_bytes or 0 for weight in weights) == 4 * WEIGHT_BYTES + 4 * LARGE_BYTES + 16
    )


def test_a_small_file_is_read_as_it_is() -> None:
    data = in_parts().SerializeToString()
    assert without_values(data) == data


def test_a_file_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    # Its one weight is a hole of the file: reading it would be felt, and mapped bytes are none.
    size = 1 << 30
    tensor = onnx.TensorProto(name="w", data_type=TensorProto.UINT8, dims=[size])
    tail = b"\x4a" + _varint(size)  # the field `raw_data`, which makes up the rest
    inner = tensor.SerializeToString() + tail
    graph = helper.make_graph([], "g", [], []).SerializeToString() + b"\x2a"
    graph += _varint(len(inner) + size) + inner
    made = onnx.ModelProto(ir_version=11, opset_import=[helper.make_opsetid("", 23)])
    with (tmp_path / "model.onnx").open("wb") as file:
        file.write(made.SerializeToString() + b"\x3a" + _varint(len(graph) + size) + graph)
        file.truncate(file.tell() + size)
    (weight,) = read_model(tmp_path / "model.onnx").weights()
    assert (weight.name, weight.dims) == ("w", (size,))


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def test_more_than_protocol_buffers_hold_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(VerificationError, match="has 2,147,483,648 bytes, but an ONNX file has"):
        read_model(tmp_path / "model.onnx")


GOOD = in_parts().SerializeToString()
BAD = {
    "nothing": (b"", "it is empty"),
    "text": (b"not an ONNX model at all\n", "Error parsing message"),
    "no model": (b"\x08\x0b", "it has no graph, no IR version or no opset"),
    "half": (GOOD[: len(GOOD) // 2], "Error parsing message"),
    "a name that is no text": (GOOD.replace(b"Softmax", b"\xff\xfeftmax"), "not UTF-8"),
}


@pytest.mark.parametrize(("data", "reason"), BAD.values(), ids=BAD)
def test_bad_files_are_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(VerificationError, match=reason) as caught:
        inspect_path(tmp_path / "model.onnx")
    assert "model.onnx` is not a whole ONNX model" in caught.value.message
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x3a\xff\xff\x7f", "ends at"),
        (b"\x3b", "wire type 3"),
        (b"\xff" * 11, "more than 10 bytes"),
        (b"\x3a", "within a number"),
    ],
)
def test_malformed_large_files_name_the_byte(data: bytes, reason: str) -> None:
    filling = b"\x12\xff\xff\x02" + bytes((1 << 15) + (1 << 14) - 1)  # a long producer name
    with pytest.raises(Malformed, match=reason):
        without_values(filling + data)


def test_functions_that_call_themselves_are_refused() -> None:
    made = in_functions()
    made.functions[0].node[0].CopyFrom(
        helper.make_node("Block", ["q", "k", "k"], ["kt"], domain="own")
    )
    made.functions[0].opset_import.append(helper.make_opsetid("own", 1))
    with pytest.raises(VerificationError, match="its functions"):
        parse_model(made.SerializeToString(), "it")


def test_functions_that_stand_for_too_much_are_refused() -> None:
    own = helper.make_opsetid("own", 1)
    functions = [
        helper.make_function(
            "own",
            f"F{level}",
            ["x"],
            ["y"],
            [
                helper.make_node(f"F{level + 1}", ["x"], ["t"], domain="own"),
                helper.make_node(f"F{level + 1}", ["t"], ["y"], domain="own"),
            ],
            [own],
        )
        for level in range(40)
    ]
    node = helper.make_node("F0", ["q"], ["o"], domain="own")
    made = model([node], heads()[:1], [value("o", HALF, 1)], domains=["own"], functions=functions)
    with pytest.raises(VerificationError, match="more than 300,000 nodes"):
        parse_model(made.SerializeToString(), "it")


SEEDS = {
    "parts": in_parts("bool mask", "NaN guard"),
    "functions": in_functions(),
    "loop": inside_loop(),
    "condition": inside_condition(),
    "weights": with_weights(),
}


@pytest.mark.parametrize("made", SEEDS.values(), ids=SEEDS)
def test_damage_never_ends_in_a_traceback(tmp_path: Path, made: onnx.ModelProto) -> None:
    rng, good = random.Random(5), made.SerializeToString()
    path, num_read = tmp_path / "model.onnx", 0
    for _ in range(80):
        path.write_bytes(_damaged(good, rng))
        with suppress(PipelineError):
            assert inspection_text(inspect_path(path)).startswith("path")
            num_read += 1
    assert 0 < num_read < 80


def test_no_beginning_of_a_file_ends_in_a_traceback(tmp_path: Path) -> None:
    good, path = in_parts().SerializeToString(), tmp_path / "model.onnx"
    for size in range(0, len(good) - 1, 3):
        path.write_bytes(good[:size])
        with pytest.raises(VerificationError, match="is not a whole ONNX model"):
            inspect_path(path)


def test_what_imports_the_reader_does_not_load_onnx() -> None:
    code = "import sys, pipeline.inspection; print(*{'onnx', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def _damaged(good: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, and now and then the end lost."""
    data = bytearray(good)
    for _ in range(rng.choice([1, 1, 2, 8])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.randrange(len(data))] if rng.random() < 0.3 else data)


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        *(("float32", 32), ("float64", 64), ("bfloat16", 16), ("float16", 16), ("bool", 8)),
        *(("uint4", 4), ("int8", 8), ("float8e4m3fn", 8), ("float4e2m1", 4), ("string", None)),
        *(("complex128", 128), ("unknown (99)", None)),
    ],
)
def test_bits(dtype: str, bits: int | None) -> None:
    assert dtype_bits(dtype) == bits


def test_every_dtype_of_onnx_is_known() -> None:
    from pipeline.onnx_files.protos import _dtype

    names = {_dtype(number) for number in onnx.TensorProto.DataType.values()} - {None, "string"}
    assert len(names) >= 24
    assert [name for name in names if dtype_bits(str(name)) is None] == []


def test_reading_needs_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(PipelineError, match="nothing that can be inspected"):
        inspect_path(tmp_path / "model.onnx")
    assert read_model(written(in_parts(), tmp_path, "x.onnx")).opsets == {"ai.onnx": 18}
