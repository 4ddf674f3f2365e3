"""A release whose engine is an ONNX graph: record, graph and weight files must agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines.onnxruntime import ENGINE
from pipeline.errors import PipelineError, VerificationError
from pipeline.inspection import inspect_path, inspection_text
from pipeline.progress import Silent
from pipeline.recipe.schema import EngineSettings
from pipeline.release.contents import open_contents
from pipeline.release.graph_check import check_graph
from pipeline.release.verify import verify_release
from tests.release.made import NO_GPU, release_in
from tests.tiny_decoder import Shape, random_weights, write_checkpoint


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real engine folder of the backend `onnxruntime`, of two ranks."""
    folder = tmp_path_factory.mktemp("built")
    write_checkpoint(folder / "checkpoint", Shape(), random_weights(Shape()), tp_size=2)
    (folder / "engine").mkdir()
    settings = EngineSettings(
        backend="onnxruntime", max_batch_size=1, max_input_len=8, max_seq_len=16
    )
    checkpoint = open_trtllm_checkpoint(folder / "checkpoint")
    ENGINE.build(checkpoint, settings, folder / "engine", Silent())
    return folder / "engine"


def contents_of(folder: Path, built: Path) -> Path:
    """A folder that looks like a release with the engine in it, to be spoilt."""
    engine = folder / "engine"
    engine.mkdir()
    for file in built.iterdir():
        (engine / file.name).write_bytes(file.read_bytes())
    (folder / "manifest.json").write_text("{}")
    return engine


def record_of(engine: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((engine / "engine.json").read_bytes())
    return record


def test_the_record_says_what_the_graph_is(built: Path) -> None:
    graph = record_of(built)["graph"]
    model = onnx.load(built / "decoder.onnx", load_external_data=False)
    assert graph["file"] == "decoder.onnx"
    assert (graph["opset"], graph["ir_version"]) == (
        model.opset_import[0].version,
        model.ir_version,
    )
    assert graph["producer"] == "trtllm-pack"
    assert (
        graph["attention_nodes"] == Shape().num_layers == graph["op_counts"]["ai.onnx"]["Attention"]
    )
    assert [port["name"] for port in graph["inputs"]] == [port.name for port in model.graph.input]
    assert graph["outputs"][0]["dtype"] == "float32"
    sizes = {row["file"]: row["size_bytes"] for row in graph["external_data"]}
    assert sizes == {
        f"rank{rank}.safetensors": (built / f"rank{rank}.safetensors").stat().st_size
        for rank in range(2)
    }
    assert all(0 < row["weight_bytes"] < row["size_bytes"] for row in graph["external_data"])


def test_a_sound_engine_passes(tmp_path: Path, built: Path) -> None:
    engine = contents_of(tmp_path, built)
    check_graph(record_of(engine), open_contents(tmp_path))
    document = inspect_path(engine / "decoder.onnx")
    assert document["external data faults"] == []
    assert document["attention"]["num_sites"] == Shape().num_layers
    assert "attention nodes" in inspection_text(inspect_path(engine))


def shorten(engine: Path) -> None:
    path = engine / "rank1.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def change_graph(edit: Callable[[onnx.ModelProto], None]) -> Callable[[Path], None]:
    def spoil(engine: Path) -> None:
        model = onnx.load(engine / "decoder.onnx", load_external_data=False)
        edit(model)
        (engine / "decoder.onnx").write_bytes(model.SerializeToString())

    return spoil


def other_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 23


def other_place(model: onnx.ModelProto) -> None:
    weight = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    for entry in weight.external_data:
        entry.value = "../../elsewhere" if entry.key == "location" else entry.value


SPOILT = {
    "missing": (
        lambda engine: (engine / "rank1.safetensors").unlink(),
        "`rank1.safetensors` is mis",
    ),
    "short": (shorten, "of `rank1.safetensors`, which has"),
    "opset": (change_graph(other_opset), "`opset` is 23, stated 24"),
    "escaping": (change_graph(other_place), "may lie outside the folder"),
    "no model": (lambda engine: (engine / "decoder.onnx").write_bytes(b"graph" * 9), "not a whole"),
    "no graph": (lambda engine: (engine / "decoder.onnx").unlink(), "lacks its graph"),
}


@pytest.mark.parametrize(("spoil", "told"), SPOILT.values(), ids=SPOILT)
def test_a_spoilt_engine_is_refused(
    tmp_path: Path, built: Path, spoil: Callable[[Path], None], told: str
) -> None:
    engine = contents_of(tmp_path, built)
    spoil(engine)
    with pytest.raises(VerificationError) as caught:
        check_graph(record_of(engine), open_contents(tmp_path))
    assert told in "\n".join([caught.value.message, *caught.value.facts])


def test_verify_asks_for_it(tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = release_in(tmp_path)
    verify_release(release, NO_GPU)  # an engine that states no graph has none to check
    asked: list[Any] = []
    monkeypatch.setattr("pipeline.release.verify.check_graph", lambda *a: asked.append(a))
    verify_release(release, NO_GPU)
    ((engine, contents),) = asked
    assert engine["backend"] == "onnxruntime"
    assert "engine/decoder.onnx" in contents.files


def test_both_forms_of_a_record_are_explained(tmp_path: Path, built: Path) -> None:
    engine = contents_of(tmp_path, built)
    record = record_of(engine)
    for graph in (None, {}, {"opset": 24}):
        (engine / "engine.json").write_text(json.dumps(record | {"graph": graph}))
        assert inspection_text(inspect_path(engine))
    with pytest.raises(PipelineError):
        check_graph({"graph": {"file": "other.onnx"}}, open_contents(tmp_path))
