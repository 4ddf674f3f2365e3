"""Running an engine, on stand-ins: the "device" is host memory, the "engine" ONNX Runtime.

They take the calls of the CUDA runtime and of TensorRT as a GPU would, so that shapes, addresses,
profiles, order and numbers are tested; the names of the calls are checked on the real packages.
"""

from __future__ import annotations

import ast
import ctypes
import json
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines import cuda_device, tensorrt_session
from pipeline.engines.cuda_device import Device
from pipeline.engines.generation import Sampling, generate
from pipeline.engines.tensorrt import ENGINE
from pipeline.engines.tensorrt_api import find_flavour, load_api
from pipeline.engines.tensorrt_session import Limits, TensorRTSession, open_session
from pipeline.errors import MachineError, ResourceError, ToolFailed, VerificationError
from pipeline.graph.decoder import write_decoder
from tests.engines.tensorrt_parts import build, checkpoint, limits
from tests.tiny_decoder import (
    Shape,
    random_weights,
    reference_logits,
    relative_error,
    write_checkpoint,
)

SLOTS, CONTEXT_TOKENS, BATCH = 32, 4, 3
SHAPE = Shape()
WEIGHTS = random_weights(SHAPE)


class Status(Enum):
    cudaSuccess = 0  # noqa: N815 - as in CUDA
    cudaErrorMemoryAllocation = 2  # noqa: N815


class HostRuntime:
    """`cuda.bindings.runtime` on host memory, which it counts."""

    cudaError_t = Status  # noqa: N815 - as in CUDA
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.blocks: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self, "_" + name)

    def _cudaStreamCreate(self) -> tuple[Status, int]:  # noqa: N802
        return Status.cudaSuccess, 77

    def _cudaStreamSynchronize(self, stream: int) -> tuple[Status]:  # noqa: N802
        assert stream == 77
        return (Status.cudaSuccess,)

    _cudaStreamDestroy = _cudaStreamSynchronize  # noqa: N815

    def _cudaMalloc(self, size: int) -> tuple[Status, int | None]:  # noqa: N802
        self.room -= size
        if self.room < 0:
            return Status.cudaErrorMemoryAllocation, None
        block = (ctypes.c_uint8 * size)(*([255] * min(size, 64)))
        self.blocks[ctypes.addressof(block)] = block
        return Status.cudaSuccess, ctypes.addressof(block)

    def _cudaFree(self, address: int) -> tuple[Status]:  # noqa: N802
        del self.blocks[address]
        return (Status.cudaSuccess,)

    def _cudaMemsetAsync(  # noqa: N802
        self, address: int, value: int, count: int, stream: int
    ) -> tuple[Status]:
        ctypes.memset(address, value, count)
        return (Status.cudaSuccess,)

    def _cudaMemcpyAsync(  # noqa: N802
        self, to: int, origin: int, count: int, kind: int, stream: int
    ) -> tuple[Status]:
        ctypes.memmove(to, origin, count)
        return (Status.cudaSuccess,)


class HostEngine:
    """`ICudaEngine` and `IExecutionContext` in one, executing the graph from raw addresses."""

    def __init__(self, folder: Path) -> None:
        self.inner = ort.InferenceSession(folder / "decoder.onnx")
        self.ports = {port.name: port for port in self.inner.get_inputs()}
        self.outputs = {port.name: port for port in self.inner.get_outputs()}
        self.names = [*self.ports, *self.outputs]
        self.num_io_tensors = len(self.names)
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.profiles: list[int] = []
        self.steps: list[tuple[int, ...]] = []

    def create_execution_context(self) -> HostEngine:
        return self

    def get_tensor_name(self, number: int) -> str:
        return self.names[number]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        port = (self.ports | self.outputs)[name]
        return tuple(dim if isinstance(dim, int) else -1 for dim in port.shape)

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        sizes = {"tensor(int64)": 8, "tensor(bool)": 1, "tensor(float)": 4}
        return SimpleNamespace(itemsize=sizes[(self.ports | self.outputs)[name].type])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        sizes = {"batch": BATCH, "seq": CONTEXT_TOKENS if profile == 0 else 1}
        largest = tuple(sizes.get(dim, dim) for dim in self.ports[name].shape)
        return [(), (), largest]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.names

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        limit = self.get_tensor_profile_shape(name, self.profiles[-1])[2]
        self.shapes[name] = tuple(shape)
        return all(size <= most for size, most in zip(shape, limit, strict=True))

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        self.profiles.append(number)
        return stream == 77

    def execute_async_v3(self, stream: int) -> bool:
        assert all(
            self.addresses[name] == self.addresses[name.replace("present_", "past_")]
            for name in self.outputs
            if name.startswith("present_")
        ), "KVCacheUpdate works in place"
        self.steps.append(self.shapes["input_ids"])
        made = self.inner.run(None, {name: self._view(name) for name in self.ports})
        for name, value in zip(self.outputs, made, strict=True):
            ctypes.memmove(self.addresses[name], value.ctypes.data, value.nbytes)
        return stream == 77

    def _view(self, name: str) -> Any:
        dtypes = {"tensor(int64)": np.int64, "tensor(bool)": np.bool_, "tensor(float)": np.float32}
        dtype = np.dtype(dtypes[self.ports[name].type])
        shape = self.shapes[name]
        size = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_uint8 * size).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype=dtype).reshape(shape).copy()


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
        open_session(tmp_path, flavour)


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
    }
    (tmp_path / "engine.json").write_text(json.dumps(config))
    assert tensorrt_session._read_limits(tmp_path) == Limits(8, 64, 32)
