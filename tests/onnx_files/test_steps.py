"""Slices whose steps would end the process when onnx follows the values of shapes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.onnx_files.steps import has_long_steps


def constant(name: str, *values: int) -> onnx.NodeProto:
    tensor = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
    return helper.make_node("Constant", [], [name], value=tensor)


def sliced(*nodes: onnx.NodeProto, steps: str = "steps") -> onnx.ModelProto:
    """A shape that is cut by steps, and a value of that shape."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    given = [constant("shape", 1, 2, 3), constant("begin", 0), constant("end", 1 << 62)]
    cut = [
        helper.make_node("Slice", ["shape", "begin", "end", "begin", steps], ["cut"]),
        helper.make_node("ConstantOfShape", ["cut"], ["y"]),
    ]
    graph = helper.make_graph([*given, *nodes, *cut], "g", ports[:1], ports[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def inside(node: onnx.NodeProto) -> onnx.NodeProto:
    graph = helper.make_graph([node], "inner", [], [])
    return helper.make_node("If", ["x"], ["z"], then_branch=graph, else_branch=graph)


@pytest.mark.parametrize("step", [1, -1, 0, (1 << 31) - 1])
def test_steps_as_exporters_write_them(step: int) -> None:
    assert not has_long_steps(sliced(constant("steps", step)))
    assert not has_long_steps(sliced(steps=""))


@pytest.mark.parametrize("step", [1 << 31, 1 << 32, -(1 << 31), -(1 << 32), (1 << 63) - 1])
def test_steps_of_more_than_32_bits(step: int) -> None:
    assert has_long_steps(sliced(constant("steps", step)))
    assert has_long_steps(sliced(constant("steps", 1), inside(constant("steps", step))))


def test_steps_that_are_not_known() -> None:
    large = constant("large", 1 << 16)
    computed = helper.make_node("Mul", ["large", "large"], ["steps"])
    assert has_long_steps(sliced(large, computed))
    assert has_long_steps(sliced(constant("steps", 1), inside(computed)))
    assert has_long_steps(sliced(helper.make_node("Constant", [], ["steps"], value_ints=[1])))
    assert has_long_steps(sliced(steps="x"))


@pytest.mark.parametrize("step", [1 << 31, 1 << 32])
def test_such_a_file_is_read(tmp_path: Path, step: int) -> None:
    """In a process of its own, with an end: it would read other memory, or take all of it."""
    path = tmp_path / "m.onnx"
    path.write_bytes(sliced(constant("steps", step)).SerializeToString())
    code = (
        "import resource, sys; from pathlib import Path; import onnx\n"
        "from pipeline.onnx_files.reading import read_model\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "print(len(read_model(Path(sys.argv[1])).graph.nodes))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr
