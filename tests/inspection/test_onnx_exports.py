"""Files that other exporters wrote: `exports/`, made by `tests/parity/make_exports.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from pipeline.inspection import inspect_path
from tests.inspection.test_onnx_in_tensorrt import outcome

FOLDER = Path(__file__).parent / "exports"
PARTS = "MatMul, Softmax, MatMul"

EXPORTS: dict[str, tuple[str, int, str, list[str]]] = {
    "plain-18-dynamo": (PARTS, 1, "fused", []),
    "plain-18-tracer": (PARTS, 1, "fused", []),
    "bool-18-dynamo": (PARTS, 1, "fused, at risk", ["NaN guard: risk"]),
    # The tracer writes the mask in float32, and with it the softmax and the second product.
    "bool-18-tracer": (PARTS, 1, "unfused", ["dtype: unfused", "NaN guard: risk"]),
    "eager-18-dynamo": (PARTS, 1, "fused, at risk", ["late scale: risk"]),
    "causal-20-dynamo": (PARTS, 1, "fused", []),
    "bool-23-dynamo": ("Attention", 1, "fused", []),
    "causal-24-dynamo": ("Attention", 1, "fused", []),
    "llama-18-dynamo": (PARTS, 2, "fused, at risk", ["NaN guard: risk"]),
    "llama-23-dynamo": ("Attention", 2, "fused", []),
    "llama-genai": (
        "com.microsoft GroupQueryAttention",
        *(2, "refused", ["contributed operator: refused"]),
    ),
}
"""Name -> kind of its sites, how many there are, what becomes of them, and what is found."""


def summary(document: dict[str, Any]) -> tuple[str, int, str, list[str]]:
    """What `EXPORTS` states."""
    (kind,) = document["attention"]["kinds"]
    (verdict,) = document["attention"]["in TensorRT"]
    found = [row["finding"] for row in document["findings"]]
    return kind, document["attention"]["num_sites"], verdict, found


def test_every_file_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.onnx")} == set(EXPORTS)


@pytest.mark.parametrize("name", EXPORTS)
def test_the_sites_of_an_export(name: str) -> None:
    document = inspect_path(FOLDER / f"{name}.onnx")
    assert summary(document) == EXPORTS[name]
    shapes = {(row["heads"], row["head_size"]) for row in document["attention sites"]}
    assert shapes == {(2, 16)}
    assert document["external data faults"] == []


@pytest.mark.parametrize("name", EXPORTS)
def test_tensorrt_does_what_is_said(name: str) -> None:
    made = onnx.load(FOLDER / f"{name}.onnx")
    assert outcome(made) == EXPORTS[name][2].removesuffix(", at risk")
