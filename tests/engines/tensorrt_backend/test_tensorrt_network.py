"""What the parser drops in silence is an error: doctored graphs and doctored expectations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.child_process import run_child
from pipeline.engines.tensorrt.graph import expected_network
from pipeline.engines.tensorrt.operators import dropped
from pipeline.errors import ToolFailed
from tests.engines.tensorrt_backend.tensorrt_parts import CHILD, checkpoint, job, limits
from tests.tiny_decoder import Shape

SHAPE = Shape()
Doctor = Callable[[dict[str, Any], onnx.ModelProto], None]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TrtllmCheckpoint:
    return checkpoint(tmp_path_factory.mktemp("source"), num_layers=1)


@pytest.fixture(scope="module")
def work(source: TrtllmCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A good job, with its folder."""
    folder = tmp_path_factory.mktemp("work") / "job"
    return job(source, folder, limits("sm80"))[0], folder


def run(work: Any, tmp_path: Path, doctor: Doctor) -> Any:
    """Run a job after doctoring it and its graph; what the child found."""
    good, folder = work
    made = {**good, "network": {key: _copy(value) for key, value in good["network"].items()}}
    model = onnx.load(folder / "decoder.onnx", load_external_data=False)
    doctor(made["network"], model)
    (tmp_path / "decoder.onnx").write_bytes(model.SerializeToString())
    for path in folder.glob("rank*.safetensors"):
        (tmp_path / path.name).hardlink_to(path)
    return run_child(CHILD, made, tmp_path, lambda _: None)


def _copy(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else list(value)


def faults(work: Any, tmp_path: Path, doctor: Doctor) -> tuple[str, ...]:
    """As `run`, of a network that is refused."""
    with pytest.raises(ToolFailed, match="did not take the whole graph") as caught:
        run(work, tmp_path, doctor)
    return caught.value.facts


def node(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    return next(each for each in model.graph.node if each.op_type == kind)


def test_the_inventory_says_what_the_network_is(work: Any, tmp_path: Path) -> None:
    result = run(work, tmp_path, lambda network, model: None).result
    (attention,) = result["attention"]
    assert attention == {
        "layers": 1,
        "query_heads": SHAPE.num_heads,
        "key_value_heads": SHAPE.num_kv_heads,
        "head_size": SHAPE.head_size,
        "dtype": "BF16",
        "causal": False,
        "mask_dtype": "BOOL",
        "mask_heads": 1,
    }
    assert result["weights"] == len(work[0]["network"]["weights"])


def test_an_input_that_no_layer_reads_is_an_error(work: Any, tmp_path: Path) -> None:
    def doctor(network: dict[str, Any], model: onnx.ModelProto) -> None:
        # As `nonpad_kv_seqlen`: TensorRT takes it, and reads it nowhere.
        lengths = helper.make_tensor_value_info("nonpad_kv_seqlen", TensorProto.INT64, ["batch"])
        model.graph.input.append(lengths)
        attention = node(model, "Attention")
        attention.input.extend(["", "", "nonpad_kv_seqlen"])
        network["inputs"]["nonpad_kv_seqlen"] = ["INT64", [-1]]

    assert faults(work, tmp_path, doctor) == ("input `nonpad_kv_seqlen` was dropped",)


def test_an_input_of_another_dtype_is_an_error(work: Any, tmp_path: Path) -> None:
    def doctor(network: dict[str, Any], model: onnx.ModelProto) -> None:
        network["inputs"]["mask"] = ["HALF", [-1, 1, -1, 48]]

    (fault,) = faults(work, tmp_path, doctor)
    assert "input `mask` became ['BOOL'" in fault


def test_an_output_that_is_gone_is_an_error(work: Any, tmp_path: Path) -> None:
    def doctor(network: dict[str, Any], model: onnx.ModelProto) -> None:
        (index,) = [i for i, o in enumerate(model.graph.output) if o.name == "present_value.0"]
        del model.graph.output[index]

    assert faults(work, tmp_path, doctor) == ("output `present_value.0` was dropped",)


def test_a_weight_that_never_arrives_is_an_error(work: Any, tmp_path: Path) -> None:
    def doctor(network: dict[str, Any], model: onnx.ModelProto) -> None:
        network["weights"]["lm_head.bias"] = ["BF16", [SHAPE.vocab_size]]
        network["weights"]["lm_head.weight"] = ["HALF", [1, 2]]

    first, second = sorted(faults(work, tmp_path, doctor))
    assert first == "weight `lm_head.bias` was dropped"
    assert second.startswith("weight `lm_head.weight` became ['BF16'")


def test_an_attribute_that_changes_is_an_error(work: Any, tmp_path: Path) -> None:
    def doctor(network: dict[str, Any], model: onnx.ModelProto) -> None:
        node(model, "RotaryEmbedding").attribute[0].i = 1

    (fault,) = faults(work, tmp_path, doctor)
    assert "`interleaved` of `" in fault
    assert "became True, not False" in fault


def test_a_mask_that_is_lost_is_an_error(work: Any, tmp_path: Path) -> None:
    def doctor(network: dict[str, Any], model: onnx.ModelProto) -> None:
        attention = node(model, "Attention")
        del attention.input[3:]
        attention.attribute.append(helper.make_attribute("is_causal", 1))

    found = faults(work, tmp_path, doctor)
    assert "input `mask` was dropped" in found
    assert any("lost its mask or its causality" in fault for fault in found)


def test_attention_that_is_missing_is_an_error(work: Any, tmp_path: Path) -> None:
    def doctor(network: dict[str, Any], model: onnx.ModelProto) -> None:
        attention = node(model, "Attention")
        copied = helper.make_node("Identity", [attention.input[0]], list(attention.output))
        attention.CopyFrom(copied)

    found = faults(work, tmp_path, doctor)
    assert "the graph has 1 attention sites, the network 0" in found
    assert any(fault.startswith("attention `") and "dropped" in fault for fault in found)


@pytest.mark.parametrize(
    ("kind", "attribute", "value"),
    [
        ("Attention", "qk_matmul_output_mode", 1),
        ("Attention", "left_window_size", 128),
        ("Attention", "softcap", 30.0),
        ("RotaryEmbedding", "scale", 2.0),
        ("TensorScatter", "nonsense", 1),
        ("MatMul", "anything", 1),
    ],
)
def test_attributes_that_the_parser_does_not_read_are_refused_before_it_is_asked(
    work: Any, tmp_path: Path, kind: str, attribute: str, value: float
) -> None:
    model = onnx.load(work[1] / "decoder.onnx", load_external_data=False)
    assert dropped(model.graph.node) == []
    node(model, kind).attribute.append(helper.make_attribute(attribute, value))
    path = tmp_path / "decoder.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ToolFailed, match="drop a part of the graph") as caught:
        expected_network(path)
    (fault,) = caught.value.facts
    assert f"attribute `{attribute}` of `" in fault


def test_inputs_and_outputs_that_the_parser_does_not_take_are_refused() -> None:
    lengths = helper.make_node("Attention", ["q", "k", "v", "", "", "", "n"], ["y", "", "z"])
    assert dropped([lengths]) == [
        "input `n` of `` (Attention) is dropped",
        "output `z` of `` (Attention) is dropped",
    ]


def test_the_parser_says_nothing_of_an_attribute_that_it_does_not_read(
    work: Any, tmp_path: Path
) -> None:
    # Why `dropped` is needed: the network is the same, and no warning is given.
    def doctor(network: dict[str, Any], model: onnx.ModelProto) -> None:
        node(model, "Attention").attribute.append(helper.make_attribute("left_window_size", 4))
        node(model, "RotaryEmbedding").attribute.append(helper.make_attribute("scale", 3.0))

    assert run(work, tmp_path, doctor).result["warnings"] == []
