"""What torch exports today is inspected like the stored exports of the default tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.inspection import inspect_path
from tests.inspection.test_onnx_exports import EXPORTS, summary
from tests.parity import make_exports

pytestmark = pytest.mark.torch

BY_DYNAMO = ["plain-18", "bool-18", "eager-18", "causal-20", "bool-23", "causal-24"]


@pytest.mark.parametrize("name", ["plain-18", "bool-18"])
def test_the_tracer(tmp_path: Path, name: str) -> None:
    kind, opset = name.split("-")
    make_exports.export(kind, int(opset), "tracer", tmp_path / "it.onnx")
    assert summary(inspect_path(tmp_path / "it.onnx")) == EXPORTS[f"{name}-tracer"]


@pytest.mark.parametrize("name", BY_DYNAMO)
def test_dynamo(tmp_path: Path, name: str) -> None:
    kind, opset = name.split("-")
    make_exports.export(kind, int(opset), "dynamo", tmp_path / "it.onnx")
    assert summary(inspect_path(tmp_path / "it.onnx")) == EXPORTS[f"{name}-dynamo"]


@pytest.mark.parametrize("opset", [18, 23])
def test_a_decoder_of_transformers(tmp_path: Path, opset: int) -> None:
    make_exports.export_llama(opset, tmp_path / "it.onnx")
    assert summary(inspect_path(tmp_path / "it.onnx")) == EXPORTS[f"llama-{opset}-dynamo"]
