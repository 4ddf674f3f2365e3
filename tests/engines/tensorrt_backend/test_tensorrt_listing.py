"""The list of kernels in an engine file: read where it is, never a proof where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.engines.tensorrt.listing import attention_kernels, check_kernels
from pipeline.errors import ToolFailed


def entry(name: str, *nodes: str) -> bytes:
    """One kernel as TensorRT for RTX 1.7.1 writes it."""
    layers = "\x1f".join(f"[ONNX Layer: {node}]" for node in nodes)
    text = (
        f'function={{ name={name} fqn={name}_0x12ab args={{ "a" }} layers="{layers}" swap=false }}'
    )
    return b"\x00\x07" + text.encode() + b"\x00"


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "decoder.engine"
    weights = bytes(range(256)) * 100
    parts = [
        entry("__myl_Mul", "layers.0.mlp.gated"),
        entry("_gemm_mha_v2", "layers.0.attention.attend"),
        entry("_gemm_mha_v2", "layers.11.attention.attend"),
        entry("__myl_ReshMaxrSubExpSumDiv", "layers.0.experts.router.scores"),
        b'function={ name=cut layers="never closed',
        weights,
        entry("_gemv_mha_v1", "layers.0.attention.attend", "layers.0.attention.by_token"),
    ]
    path.write_bytes(b"".join(parts))
    return path


def test_kernels_of_attention_are_counted_over_all_profiles(engine: Path) -> None:
    found = attention_kernels(engine)
    assert found == {
        "listed": True,
        "fused": {"_gemm_mha_v2": 2, "_gemv_mha_v1": 1},
        "unfused": {},  # the router's softmax is not of an attention
        "layers_fused": 2,
        "layers_unfused": 0,
    }
    check_kernels(found, 2)


def test_a_contradiction_is_an_error(engine: Path) -> None:
    with pytest.raises(ToolFailed, match="contradicts the build"):
        check_kernels(attention_kernels(engine), 3)
    softmax = entry("__myl_SeleAddReshMaxrSubExpSumDiv", "layers.11.attention.attend")
    engine.write_bytes(engine.read_bytes() + softmax)
    found = attention_kernels(engine)
    assert (found["layers_fused"], found["layers_unfused"]) == (2, 1)
    with pytest.raises(ToolFailed, match="contradicts the build") as caught:
        check_kernels(found, 2)
    assert any("__myl_SeleAddReshMaxrSubExpSumDiv" in fact for fact in caught.value.facts)


def test_a_file_without_a_list_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "decoder.engine"
    path.write_bytes(bytes(range(256)) * 1000)
    found = attention_kernels(path)
    assert found["listed"] is False
    check_kernels(found, 22)
