"""What the backend `onnxruntime` says of a machine for `device: cpu` and `device: cuda`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.artifact import Json
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines import traced_generator
from pipeline.engines.onnxruntime import ENGINE, devices, proof
from pipeline.engines.onnxruntime import engine as backend
from pipeline.engines.onnxruntime.proof import cuda_proof
from pipeline.engines.reference import reference_problems
from pipeline.errors import MachineError, ToolFailed
from pipeline.graph.decoder import GraphOptions, decoder_model
from pipeline.graph.facts import GraphFacts
from pipeline.hardware import Gpu, Hardware
from pipeline.progress import Silent
from pipeline.recipe.schema import EngineSettings
from pipeline.recipe.smoke_section import Compare
from pipeline.stages import build as build_stage
from tests.tiny_decoder import Shape, random_weights, write_checkpoint

SHAPE = replace(Shape(), dtype="bfloat16")
CUDA = EngineSettings(
    backend="onnxruntime", device="cuda", max_batch_size=3, max_input_len=24, max_seq_len=48
)
LENIENT = CUDA.model_copy(
    update={"attention": CUDA.attention.model_copy(update={"require_fused": False})}
)
GPU = Gpu("NVIDIA H100", "sm90", 80 << 30, "580.1")
WITH_GPU = Hardware(2, 1 << 30, (GPU,))
WITHOUT = Hardware(2, 1 << 30, ())
FLASH = "void onnxruntime::flash::flash_fwd_kernel<onnxruntime::flash::Traits<64>>()"
SOFTMAX = "void onnxruntime::contrib::cuda::(anonymous namespace)::UnfusedSoftmaxKernel<float>()"


def installed(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    runtime = None if name is None else (name, "1.31.1")
    monkeypatch.setattr(devices, "installed_runtime", lambda: runtime)


def with_cupti(monkeypatch: pytest.MonkeyPatch, reason: str | None = None) -> None:
    monkeypatch.setattr(devices, "why_no_trace", lambda: reason)
    monkeypatch.setattr(traced_generator, "why_no_trace", lambda: reason)


def test_without_gpu_the_plan_is_refused_with_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime")
    (problem,) = ENGINE.problems(SHAPE.config(), CUDA, WITHOUT)
    assert (problem.stage, problem.kind) == ("build", MachineError)
    assert problem.message == "`engine.device` is `cuda`, which this machine cannot execute"
    assert len(problem.facts) == 2
    assert "`onnxruntime-gpu` is not installed, `onnxruntime` 1.31.1" in problem.facts[1]
    assert "engine.device: cpu" in (problem.hint or "")
    reason = ENGINE.why_not_runnable(CUDA, WITHOUT)
    assert reason is not None
    assert "no NVIDIA GPU" in reason


def test_with_gpu_and_package_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime-gpu")
    with_cupti(monkeypatch)
    assert ENGINE.problems(SHAPE.config(), CUDA, WITH_GPU) == []
    assert ENGINE.why_not_runnable(CUDA, WITH_GPU) is None
    (support,) = ENGINE.attention_support(SHAPE.config(), CUDA)
    assert (support["target"], support["fused"]) == ("cuda", None)
    (note,) = ENGINE.notes(SHAPE.config(), CUDA)
    assert note.startswith("KV cache on the GPU")


def test_the_cpu_needs_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime")
    with_cupti(monkeypatch, "nothing there")
    settings = CUDA.model_copy(update={"device": "cpu"})
    assert ENGINE.problems(SHAPE.config(), settings, WITHOUT) == []
    assert ENGINE.why_not_runnable(settings, WITHOUT) is None
    assert ENGINE.notes(SHAPE.config(), settings) == []


def test_without_cupti_there_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime-gpu")
    with_cupti(monkeypatch, "CUPTI is not installed (`nvidia-cuda-cupti`)")
    (problem,) = ENGINE.problems(SHAPE.config(), CUDA, WITH_GPU)
    assert "fused attention cannot be proved: CUPTI is not installed" in problem.message
    assert ENGINE.problems(SHAPE.config(), LENIENT, WITH_GPU) == []


def test_float32_is_fused_only_without_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime-gpu")
    with_cupti(monkeypatch)
    grouped = replace(SHAPE, dtype="float32")
    (problem,) = ENGINE.problems(grouped.config(), CUDA, WITH_GPU)
    assert "no fused kernel for grouped-query attention in float32" in problem.message
    assert ENGINE.problems(grouped.config(), LENIENT, WITH_GPU) == []
    (support,) = ENGINE.attention_support(grouped.config(), CUDA)
    assert support["fused"] is False
    plain = replace(grouped, num_kv_heads=grouped.num_heads)
    assert ENGINE.problems(plain.config(), CUDA, WITH_GPU) == []


def test_a_cache_that_is_larger_than_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime-gpu")
    with_cupti(monkeypatch)
    small = Hardware(2, 1 << 30, (replace(GPU, memory_bytes=40_000),))
    needed = 3 * 48 * 2 * (SHAPE.num_layers * SHAPE.num_kv_heads * 2 * SHAPE.head_size)
    assert devices.cache_bytes(SHAPE.config(), CUDA) == needed
    (problem,) = ENGINE.problems(SHAPE.config(), CUDA, small)
    assert problem.message == f"the KV cache takes {needed:,} bytes, and `NVIDIA H100` has 40,000"


def test_estimates_follow_the_dtype_of_the_device() -> None:
    on_gpu = ENGINE.estimate(SHAPE.config(), CUDA, 10 << 30)
    on_cpu = ENGINE.estimate(SHAPE.config(), CUDA.model_copy(update={"device": "cpu"}), 10 << 30)
    assert on_gpu["memory_bytes"] < on_cpu["memory_bytes"]
    assert devices.compute_dtype(SHAPE.config(), CUDA) == "bfloat16"
    assert ENGINE.memory_report(SHAPE.config(), CUDA) is None


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-gpu"])
def test_the_files_in_place_say_which_package_they_are_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """pip may know of both; the later one has overwritten the files."""
    told = tmp_path / "capi" / "build_and_package_info.py"
    told.parent.mkdir()
    told.write_text(f"package_name = '{name}'\n__version__ = '1.31.7'\ncuda_version = '13.0'\n")
    spec = ModuleSpec("onnxruntime", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(devices, "find_spec", lambda _name: spec)
    assert devices.installed_runtime() == (name, "1.31.7")
    assert ENGINE.tool_versions()[name] == "1.31.7"


def test_without_any_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_spec", lambda _name: None)
    assert devices.installed_runtime() is None
    assert set(ENGINE.tool_versions()) == {"onnx"}
    assert "nothing is in its place" in devices.missing_for_cuda(WITH_GPU)[0]


class Launching:
    """A session on a GPU that tells which kernels it would launch."""

    max_batch_size, max_seq_len = 1, 48
    num_attention_nodes = 3
    executed_by: Mapping[str, str] = {"device": "NVIDIA H100"}

    def __init__(self, context: str, generation: str) -> None:
        self.names, self.launched = (context, generation), ["a matrix product"]

    def plain(self) -> Launching:
        return self

    def start(self, prompts: Sequence[Sequence[int]]) -> None:
        self.launched.append(self.names[0])

    def step(self, token_ids: Sequence[int]) -> None:
        self.launched.append(self.names[1])

    def watch(self, run: Any) -> list[str]:
        self.launched = ["a matrix product"]
        run()
        return sorted(set(self.launched))


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> GraphFacts:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, SHAPE, random_weights(SHAPE))
    options = GraphOptions(48, "bfloat16", form="lengths")
    return decoder_model(open_trtllm_checkpoint(folder), options)[1]


def proved(
    monkeypatch: pytest.MonkeyPatch,
    facts: GraphFacts,
    settings: EngineSettings,
    *kernels: str,
) -> dict[str, Json]:
    session = Launching(*kernels)
    monkeypatch.setattr(traced_generator, "launched_kernels", session.watch)
    return cuda_proof(session, settings, facts)  # type: ignore[arg-type]


def test_kernels_of_both_passes_are_the_proof(
    monkeypatch: pytest.MonkeyPatch, facts: GraphFacts
) -> None:
    with_cupti(monkeypatch)
    document = proved(monkeypatch, facts, CUDA, FLASH, FLASH)
    built, observed = document["built"], document["observed"]
    assert (built["status"], built["level"], built["targets"]) == ("fused", "kernel", ["cuda"])
    assert built["attention_sites"] == built["attention_layers"] == 3
    assert (observed["status"], observed["device"]) == ("fused", "NVIDIA H100")
    assert observed["context"]["kernels"] == observed["generation"]["kernels"] == [FLASH]


@pytest.mark.parametrize(
    ("kernels", "status"), [((FLASH, SOFTMAX), "unfused"), (("other", FLASH), "unknown")]
)
def test_what_is_not_seen_fused_fails_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, facts: GraphFacts, kernels: tuple[str, str], status: str
) -> None:
    with_cupti(monkeypatch)
    with pytest.raises(ToolFailed, match=f"ran on the GPU are {status}") as caught:
        proved(monkeypatch, facts, CUDA, *kernels)
    assert any(kernels[1] in fact for fact in caught.value.facts)
    document = proved(monkeypatch, facts, LENIENT, *kernels)
    assert document["built"]["status"] == document["observed"]["status"] == status


def test_the_softmax_of_experts_is_no_attention(
    monkeypatch: pytest.MonkeyPatch, facts: GraphFacts
) -> None:
    with_cupti(monkeypatch)
    routing = "void onnxruntime::cuda::softmax_warp_forward<float, float, float, 2, false>()"

    class Routed(Launching):
        def watch(self, run: Any) -> list[str]:
            return [*super().watch(run), routing]

    session = Routed(FLASH, FLASH)
    monkeypatch.setattr(traced_generator, "launched_kernels", session.watch)
    experts = replace(facts, op_counts={**facts.op_counts, "Softmax": 2})
    document = cuda_proof(session, CUDA, experts)  # type: ignore[arg-type]
    assert document["observed"]["status"] == "fused"
    with pytest.raises(ToolFailed, match="are unfused"):  # without experts it is a part
        cuda_proof(session, CUDA, facts)  # type: ignore[arg-type]
    with pytest.raises(ToolFailed, match="are unfused"):
        proved(monkeypatch, experts, CUDA, FLASH, SOFTMAX)


def test_without_cupti_the_proof_claims_nothing(
    monkeypatch: pytest.MonkeyPatch, facts: GraphFacts
) -> None:
    with_cupti(monkeypatch, "CUPTI is not installed")
    document = proved(monkeypatch, facts, LENIENT, FLASH, FLASH)
    assert (document["built"]["status"], document["built"]["level"]) == ("unknown", "operator")
    assert document["observed"]["status"] == "not observed"
    with pytest.raises(ToolFailed, match="are unknown"):
        proved(monkeypatch, facts, CUDA, FLASH, FLASH)


def test_a_build_writes_the_graph_in_the_checkpoint_s_dtype(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the GPU's session: the folder, the graph's form, and the record."""
    with_cupti(monkeypatch)
    session = Launching(FLASH, FLASH)
    monkeypatch.setattr(traced_generator, "launched_kernels", session.watch)
    opened: list[tuple[Any, ...]] = []

    def open_cuda(*given: Any) -> Launching:
        opened.append(given)
        return session

    monkeypatch.setattr(backend, "_open_cuda", open_cuda)
    write_checkpoint(tmp_path / "checkpoint", SHAPE, random_weights(SHAPE), tp_size=2)
    checkpoint, out = open_trtllm_checkpoint(tmp_path / "checkpoint"), tmp_path / "engine"
    out.mkdir()
    told = ENGINE.build(checkpoint, CUDA, out, Silent())
    assert (told["attention"], told["attention_sites"]) == ("fused", 3)
    config = backend._read_engine_config(out)
    assert (config["device"], config["targets"]) == ("cuda", ["cuda"])
    assert config["compute_dtype"] == "bfloat16"
    names = [port["name"] for port in config["graph"]["inputs"]]
    assert "nonpad_kv_seqlen" in names
    assert "mask" not in names
    assert opened[0][2] == (1, 48)
    ENGINE.load(out, checkpoint.path)
    assert opened[1][2] == (3, 48)


def test_an_engine_for_a_gpu_does_not_open_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "detect", lambda: WITHOUT)
    with pytest.raises(MachineError, match="this engine needs an NVIDIA GPU"):
        backend._open_cuda(tmp_path / "decoder.onnx", tmp_path, (1, 48), {})
    assert proof._told({"reason": "why"}) == ["why"]


def test_the_gpu_s_logits_can_be_held_against_the_cpu_s() -> None:
    """On the CPU `smoke.compare` would compare an engine with itself."""
    config, on_cpu = SHAPE.config(), CUDA.model_copy(update={"device": "cpu"})
    assert reference_problems(config, CUDA, Compare(), None) == []
    (problem,) = reference_problems(config, on_cpu, Compare(), None)
    assert "which is the engine's own" in problem.message


@pytest.mark.parametrize("name", ["tensorrt", "trtllm"])
def test_other_backends_have_no_device(name: str) -> None:
    with pytest.raises(ValidationError, match=f"not read by the backend `{name}`"):
        EngineSettings.model_validate({"backend": name, "device": "cuda"})
    other = EngineSettings.model_validate({"backend": name})
    assert "device" not in other.model_dump()
    assert CUDA.model_dump()["device"] == "cuda"


def test_an_engine_for_a_gpu_is_built_anew_for_another_one() -> None:
    """Its proof names the kernels of the GPU that ran them."""
    h200 = replace(GPU, name="NVIDIA H200")
    plans = [
        SimpleNamespace(
            recipe=SimpleNamespace(engine=settings),
            build_tools={"onnxruntime-gpu": "1.31.1"},
            hardware=Hardware(2, 1 << 30, (gpu,)),
        )
        for settings in (CUDA, CUDA.model_copy(update={"device": "cpu"}))
        for gpu in (GPU, h200)
    ]
    first, second, cpu, other_cpu = [build_stage.settings(plan) for plan in plans]  # type: ignore[arg-type]
    assert (first["gpus"], second["gpus"]) == (["NVIDIA H100"], ["NVIDIA H200"])
    assert cpu == other_cpu
