"""Putting weights back: the names exist in the installed TensorRT, the rest runs on stand-ins."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.engines.tensorrt.api import find_flavour, load_api
from pipeline.engines.tensorrt.refit import refit
from pipeline.errors import ToolFailed, VerificationError

FILES = ("rank0.safetensors", "rank1.safetensors")


class Standin:
    """`Refitter` and `OnnxParserRefitter` in one; remembers the folder that it read."""

    num_errors = 1

    def __init__(self, *, reads: bool = True, refits: bool = True) -> None:
        self.reads, self.refits = reads, refits
        self.seen: dict[str, bytes] = {}
        self.Refitter = lambda engine, log: self
        self.OnnxParserRefitter = lambda refitter, log: self

    def refit_from_file(self, path: str) -> bool:
        self.seen = {file.name: file.read_bytes() for file in Path(path).parent.iterdir()}
        return self.reads

    def refit_cuda_engine(self) -> bool:
        return self.refits

    def get_error(self, number: int) -> Any:
        return SimpleNamespace(desc=lambda: f"error {number}")

    def get_missing_weights(self) -> list[str]:
        return ["lm_head.weight"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    engine, weights = tmp_path / "engine", tmp_path / "weights"
    engine.mkdir()
    weights.mkdir()
    (engine / "decoder.onnx").write_bytes(b"graph")
    for name in FILES:
        (weights / name).write_bytes(name.encode())
    return engine, weights


def test_graph_and_weights_lie_side_by_side_for_the_refitter(folders: tuple[Path, Path]) -> None:
    standin = Standin()
    refit(standin, object(), object(), folders[0], FILES, folders[1])
    assert standin.seen == {
        "decoder.onnx": b"graph",
        "rank0.safetensors": b"rank0.safetensors",
        "rank1.safetensors": b"rank1.safetensors",
    }


def test_weights_that_are_not_there_are_named(folders: tuple[Path, Path]) -> None:
    (folders[1] / FILES[1]).unlink()
    with pytest.raises(VerificationError, match="built without weights") as caught:
        refit(Standin(), object(), object(), folders[0], FILES, folders[1])
    assert caught.value.facts == ("`rank1.safetensors` is missing",)


@pytest.mark.parametrize("refused", [{"reads": False}, {"refits": False}], ids=str)
def test_what_tensorrt_refuses_is_an_error(
    folders: tuple[Path, Path], refused: dict[str, bool]
) -> None:
    with pytest.raises(ToolFailed, match="cannot put the weights") as caught:
        refit(Standin(**refused), object(), object(), folders[0], FILES, folders[1])
    assert caught.value.facts == ("error 0", "weight `lm_head.weight` is missing")


def test_every_call_exists_in_the_installed_tensorrt() -> None:
    flavour = find_flavour()
    assert flavour is not None
    trt = load_api(flavour)
    for name in ("refit_cuda_engine", "get_missing_weights"):
        assert hasattr(trt.Refitter, name)
    for name in ("refit_from_file", "num_errors", "get_error"):
        assert hasattr(trt.OnnxParserRefitter, name)
    assert hasattr(trt.Runtime, "engine_host_code_allowed")
    flags = trt.BuilderFlag.__members__
    assert {"STRIP_PLAN", "REFIT_IDENTICAL", "VERSION_COMPATIBLE"} <= set(flags)
