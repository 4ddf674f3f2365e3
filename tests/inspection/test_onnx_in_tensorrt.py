"""What an inspection says of a graph is what TensorRT for RTX makes of it: every case is built.

Nothing is executed. An `Attention` that was built is fused, since it is not decomposable; of one in
parts the engine tells by the name of a kernel, `_gemm_mha_v...`, which it then holds.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import onnx
import onnxruntime
import pytest

from pipeline.engines.tensorrt.api import create_network, find_flavour, load_api, set_targets
from pipeline.engines.tensorrt.onnx import CONTRIB_DOMAIN, is_imported
from tests.inspection.onnx_cases import CASES, LENGTHS, Case

FUSED_KERNEL = re.compile(rb"_gem[mv]_mha_v\d")


@cache
def api() -> Any:
    flavour = find_flavour()
    assert flavour is not None
    return load_api(flavour)


@cache
def log() -> Any:
    trt = api()

    class Quiet(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            pass

    return Quiet()


def parsed(made: onnx.ModelProto) -> tuple[Any, Any]:
    """Builder and network; no network where the parser refuses the model."""
    builder = api().Builder(log())
    network = create_network(api(), builder)
    parser = api().OnnxParser(network, log())
    return builder, network if parser.parse(made.SerializeToString()) else None


def outcome(made: onnx.ModelProto) -> str:
    """`refused`, `fused` or `unfused`, from a real build."""
    builder, network = parsed(made)
    if network is None:
        return "refused"
    config = builder.create_builder_config()
    flavour = find_flavour()
    assert flavour is not None
    set_targets(api(), flavour, config, ["sm89"])
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return "refused"
    # An operator that was built needs no further evidence; in parts the kernel's name is it.
    is_operator = any(node.op_type == "Attention" for node in made.graph.node)
    return "fused" if is_operator or FUSED_KERNEL.search(bytes(plan)) else "unfused"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_verdict_is_what_the_builder_does(case: Case) -> None:
    assert outcome(case.model) == case.verdict.removesuffix(", at risk")


def test_lengths_are_dropped_in_silence() -> None:
    _, network = parsed(LENGTHS.model)
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    read = {layer.get_input(n).name for layer in layers for n in range(layer.num_inputs)}
    assert {"q", "k", "v"} <= read
    assert "lengths" not in read


def test_the_operators_are_those_that_the_parser_knows() -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    parser = api().OnnxParser(create_network(api(), api().Builder(log())), log())
    standard = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    own = {s.name for s in get_all_operator_schema() if s.domain == CONTRIB_DOMAIN}
    assert len(standard) > 190, onnx.__version__
    assert len(own) > 100, onnxruntime.__version__
    names = [("", op) for op in standard] + [(CONTRIB_DOMAIN, op) for op in own]
    wrong = [(d, op) for d, op in names if parser.supports_operator(op) != is_imported(d, op)]
    assert wrong == []
