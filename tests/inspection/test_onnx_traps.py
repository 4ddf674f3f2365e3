"""Every trap is found where it is, named by its nodes, and nothing is found where none is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from pipeline.inspection import inspect_path, inspection_text
from tests.command import ROOT
from tests.inspection.onnx_cases import CASES, LENGTHS, Case, router
from tests.inspection.onnx_parts import (
    HALF,
    attention,
    heads,
    in_functions,
    in_parts,
    inside_loop,
    model,
    value,
    written,
)


def inspected(made: onnx.ModelProto, folder: Path) -> dict[str, Any]:
    """The document of a model."""
    return inspect_path(written(made, folder))


def finding(document: dict[str, Any], trap: str) -> dict[str, Any]:
    """The one finding of a trap."""
    (found,) = [row for row in document["findings"] if row["finding"].startswith(f"{trap}: ")]
    return dict(found)


@pytest.mark.parametrize("case", [*CASES.values(), LENGTHS], ids=[*CASES, "lengths"])
def test_a_trap_decides_the_verdict(tmp_path: Path, case: Case) -> None:
    document = inspected(case.model, tmp_path)
    sites = document["attention sites"]
    assert {site["in TensorRT"] for site in sites} == {case.verdict}
    assert document["attention"]["num_sites"] == len(sites) == 1 + bool(document["functions"])
    assert tuple(row["finding"].partition(":")[0] for row in document["findings"]) == case.traps
    assert document["num_findings"] == len(case.traps)
    assert document["external data faults"] == []
    text = inspection_text(document)
    assert all(row["hint"] in text for row in document["findings"])


def test_every_trap_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "onnx.md").read_text()
    table = text.partition("| found | in the operator |")[2].partition("\n\n")[0]
    documented = {line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]}
    found = {trap for case in [*CASES.values(), LENGTHS] for trap in case.traps}
    assert documented == found | {"opset", "operator"}


def test_nodes_are_named(tmp_path: Path) -> None:
    document = inspected(in_parts("bool mask", "NaN guard", "island", "late scale"), tmp_path)
    assert finding(document, "NaN guard")["nodes"] == ["is_nan", "guarded"]
    assert finding(document, "float32 island")["nodes"] == ["raised", "lowered"]
    assert finding(document, "late scale")["nodes"] == ["scores"]
    assert document["attention sites"] == [
        {
            "site": "shares",
            "kind": "MatMul, Softmax, MatMul",
            "dtype": "float16",
            "heads": 4,
            "head_size": 64,
            "in TensorRT": "fused, at risk",
            "because": "NaN guard, float32 island, late scale",
        }
    ]


def test_the_worst_comes_first(tmp_path: Path) -> None:
    document = inspected(in_parts("late scale", "axis"), tmp_path)
    assert [row["finding"] for row in document["findings"]] == ["axis: unfused", "late scale: risk"]
    assert document["attention"]["in TensorRT"] == {"unfused": 1}


def test_places_inside_of_nodes_are_told(tmp_path: Path) -> None:
    (site,) = inspected(inside_loop(), tmp_path)["attention sites"]
    assert site["site"] == "attend (body of Loop `loop`)"


def test_functions_count_where_they_are_called(tmp_path: Path) -> None:
    # The first product is in one function, the softmax in another, and both are called twice.
    document = inspected(in_functions(), tmp_path)
    assert document["functions"] == ["own:Block", "own:Scores"]
    assert document["attention"]["kinds"] == {"MatMul, Softmax, MatMul": 2}
    assert {"domain": "own", "operator": "Block", "num_nodes": 2} in document["operators"]


def test_a_router_is_no_attention(tmp_path: Path) -> None:
    document = inspected(router(), tmp_path)
    assert document["attention"]["num_sites"] == 0
    assert document["findings"] == []


def test_a_learned_query_attends(tmp_path: Path) -> None:
    made = in_parts()
    query = helper.make_tensor("q", HALF, [1, 4, 32, 64], [0.0] * (4 * 32 * 64))
    made.graph.initializer.append(query)
    del made.graph.input[0]
    assert inspected(made, tmp_path)["attention"]["num_sites"] == 1


def test_what_is_not_told_is_unknown(tmp_path: Path) -> None:
    made = attention()
    for port in (*made.graph.input, *made.graph.output):
        port.type.tensor_type.ClearField("shape")
    document = inspected(made, tmp_path)
    assert document["attention"]["in TensorRT"] == {"unknown": 1}
    assert document["findings"] == []


@pytest.mark.parametrize(
    ("opset", "found"), [(6, ["opset: risk"]), (18, []), (26, ["opset: risk"])]
)
def test_opsets(tmp_path: Path, opset: int, found: list[str]) -> None:
    node = helper.make_node("Relu", ["q"], ["o"])
    ports = heads()[:1]
    made = model([node], ports, [value("o", HALF, 1, 4, 32, 64)], opset=opset, ir_version=3)
    assert [row["finding"] for row in inspected(made, tmp_path)["findings"]] == found


@pytest.mark.parametrize(
    ("domain", "op", "told"),
    [
        ("", "Det", "`Det` has no importer"),
        ("com.microsoft", "QuickGelu", "`QuickGelu` of com.microsoft has no importer"),
        ("someone", "Softmax", "`Softmax` of someone has no importer"),
        ("com.microsoft", "RotaryEmbedding", None),
        ("", "Relu", None),
    ],
)
def test_operators_without_importer(tmp_path: Path, domain: str, op: str, told: str | None) -> None:
    node = helper.make_node(op, ["q"], ["o"], domain=domain, name="it")
    domains = [domain] if domain else []
    made = model([node], heads()[:1], [value("o", HALF, 1)], domains=domains)
    findings = inspected(made, tmp_path)["findings"]
    assert [row["what"] for row in findings] == ([told] if told else [])
    assert [row["nodes"] for row in findings] == ([["it"]] if told else [])
