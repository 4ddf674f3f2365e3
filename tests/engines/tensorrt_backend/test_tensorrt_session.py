"""Running an engine, on stand-ins: the "device" is host memory, the "engine" ONNX Runtime."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines import cuda_device
from pipeline.engines.cuda_device import Device
from pipeline.engines.generation import Sampling, generate
from pipeline.engines.tensorrt import ENGINE
from pipeline.engines.tensorrt import session as tensorrt_session
from pipeline.engines.tensorrt.api import find_flavour, load_api
from pipeline.engines.tensorrt.limits import Limits, read_limits
from pipeline.engines.tensorrt.session import TensorRTSession, open_session
from pipeline.errors import MachineError, ResourceError, ToolFailed, VerificationError
from pipeline.graph.decoder import write_decoder
from tests.engines.tensorrt_backend.tensorrt_parts import build, checkpoint, limits
from tests.engines.tensorrt_backend.tensorrt_standins import (
    BATCH,
    CONTEXT_TOKENS,
    SLOTS,
    HostEngine,
    HostRuntime,
    PortsEngine,
)
from tests.tiny_decoder import (
    Shape,
    random_weights,
    reference_logits,
    relative_error,
    write_checkpoint,
)

SHAPE = Shape()
WEIGHTS = random_weights(SHAPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of a TensorRT engine in float32, with its rank file."""
    where = tmp_path_factory.mktemp("graph")
    write_checkpoint(where, SHAPE, WEIGHTS)
    source = open_trtllm_checkpoint(where)
    write_decoder(source, where / "decoder.onnx", max_seq_len=SLOTS, compute_dtype="float32")
    return where


def session(folder: Path, runtime: HostRuntime) -> tuple[TensorRTSession, HostEngine]:
    engine = HostEngine(folder)
    accepted = Limits(BATCH, SLOTS, CONTEXT_TOKENS)
    return TensorRTSession(engine, Device(runtime), accepted, "a stand-in"), engine


def test_logits_are_those_of_the_mathematics_in_both_phases(folder: Path) -> None:
    runtime = HostRuntime()
    running, engine = session(folder, runtime)
    prompts = [[5, 9, 2, 77, 31, 8], [1], [100, 4, 4]]
    logits = running.start(prompts)
    for _ in range(3):
        for row, prompt in zip(logits, prompts, strict=True):
            expected = reference_logits(SHAPE, WEIGHTS, prompt)[-1]
            assert relative_error(row, expected) < 1e-4
        chosen = [int(row.argmax()) for row in logits]
        for prompt, token in zip(prompts, chosen, strict=True):
            prompt.append(token)
        logits = running.step(chosen)
    # The longest prompt took two context steps; each profile was chosen once.
    assert engine.steps == [(3, 4), (3, 2), (3, 1), (3, 1), (3, 1)]
    assert engine.profiles == [0, 1]
    running.close()
    assert not runtime.blocks


def test_batches_follow_each_other_in_the_same_buffers(folder: Path) -> None:
    running, _ = session(folder, HostRuntime())
    sampling = Sampling(max_new_tokens=5)
    alone = [generate(running, [prompt], sampling)[0] for prompt in ([7, 3], [60, 61, 62], [9])]
    together = generate(running, [[7, 3], [60, 61, 62], [9], [7, 3]], sampling)
    assert together == [*alone, alone[0]]
    assert running.executed_by["backend"] == "tensorrt"


def test_every_port_has_the_buffer_and_the_shape_that_is_its_own() -> None:
    engine, runtime = PortsEngine(), HostRuntime()
    running = TensorRTSession(
        engine, Device(runtime), Limits(BATCH, SLOTS, CONTEXT_TOKENS), "a stand-in"
    )
    sizes = {address: len(block) for address, block in runtime.blocks.items()}
    for name, (item, dims) in engine.ports.items():
        assert sizes[engine.addresses[name]] == item * int(np.prod(dims)), name
    for present, past in engine.aliases.items():
        assert engine.addresses[present] == engine.addresses[past]
    assert len(runtime.blocks) == len(engine.ports)  # each cache once
    running.start([[1, 2], [3, 4]])
    assert engine.shapes["past_key.0"] == (2, 2, SLOTS, 24)
    assert engine.shapes["past_value.0"] == (2, 2, SLOTS, 16)
    assert engine.shapes["past_key.2"] == (2, 6, SLOTS, 16)
    assert set(engine.shapes) == {name for name in engine.ports if name != "logits"}


def test_position_offsets_move_what_positions_say_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, engine = session(folder, HostRuntime())
    seen: list[dict[str, list[list[int]]]] = []
    execute = engine.execute_async_v3

    def look(stream: int) -> bool:
        names = ("position_ids", "write_indices")
        seen.append({name: engine._view(name).tolist() for name in names})
        return execute(stream)

    monkeypatch.setattr(engine, "execute_async_v3", look)
    running.start([[5, 9], [7, 8]], [0, 3])
    running.step([1, 1])
    assert [step["position_ids"] for step in seen] == [[[0, 1], [3, 4]], [[2], [5]]]
    assert [step["write_indices"] for step in seen] == [[0, 0], [2, 2]]


def test_too_little_device_memory_is_said_so(folder: Path) -> None:
    with pytest.raises(ResourceError, match="GPU"):
        session(folder, HostRuntime(room=1000))


def test_what_tensorrt_refuses_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, engine = session(folder, HostRuntime())
    monkeypatch.setattr(engine, "execute_async_v3", lambda _: False)
    with pytest.raises(ToolFailed, match="execution"):
        running.start([[1, 2]])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"backend": "onnxruntime"}'])
def test_a_folder_that_is_no_engine_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "engine.json").write_text(text)
    flavour = find_flavour()
    assert flavour is not None
    with pytest.raises(VerificationError, match="not a `tensorrt` engine"):
        open_session(tmp_path, tmp_path, flavour)


def test_a_real_engine_is_refused_where_no_driver_is(tmp_path: Path) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs the extra `run`")
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("a CUDA device is here")
    build(checkpoint(tmp_path / "source", num_layers=1), tmp_path / "engine", limits("sm80"))
    with pytest.raises(MachineError, match="refuses the engine") as caught:
        ENGINE.load(tmp_path / "engine", tmp_path / "source")
    assert any("driver" in fact for fact in caught.value.facts)
    (tmp_path / "engine" / "decoder.engine").write_bytes(b"")
    with pytest.raises(VerificationError, match="is not an engine"):
        ENGINE.load(tmp_path / "engine", tmp_path / "source")


def _names_of(module: Any, variable: str) -> set[str]:
    """Attributes that a module takes of a variable, or of `self.<variable>`."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value).removeprefix("self.") == variable
    }


def test_every_call_of_tensorrt_exists_in_the_installed_one() -> None:
    flavour = find_flavour()
    assert flavour is not None
    trt = load_api(flavour)
    engine = _names_of(tensorrt_session, "engine") | _names_of(tensorrt_session, "_engine")
    context = _names_of(tensorrt_session, "_context")
    assert len(engine) >= 6
    assert len(context) >= 4
    assert {name for name in engine if not hasattr(trt.ICudaEngine, name)} == set()
    assert {name for name in context if not hasattr(trt.IExecutionContext, name)} == set()
    assert hasattr(trt.Runtime, "deserialize_cuda_engine")
    assert trt.DataType.BF16.itemsize == 2


def test_every_call_of_the_cuda_runtime_exists_in_the_installed_one() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs the extra `run`")
    text = Path(cuda_device.__file__).read_text(encoding="utf-8")
    called = {
        node.args[0].value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._call"
        if isinstance(node.args[0], ast.Constant)
    }
    assert len(called) == 7
    assert {name for name in called if not hasattr(runtime, name)} == set()
    assert (
        runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        != runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
    )
    assert runtime.cudaError_t.cudaSuccess != runtime.cudaError_t.cudaErrorMemoryAllocation
    error, *_ = runtime.cudaGetDeviceCount()
    assert error.name.startswith("cuda")


def test_limits_are_those_that_the_build_wrote(tmp_path: Path) -> None:
    config = {
        "backend": "tensorrt",
        "max_batch_size": 8,
        "max_seq_len": 64,
        "profiles": {"context_tokens": 32, "generation_tokens": 1},
        "strip_weights": False,
        "version_compatible": False,
        "weight_files": ["rank0.safetensors"],
        "checkpoint": {"dtype": "float16"},
    }
    (tmp_path / "engine.json").write_text(json.dumps(config))
    files = ("rank0.safetensors",)
    expected = Limits(8, 64, 32, weight_files=files, checkpoint={"dtype": "float16"})
    assert read_limits(tmp_path) == expected
