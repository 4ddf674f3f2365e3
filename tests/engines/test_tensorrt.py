"""The backend `tensorrt`, with real builds by TensorRT for RTX: fused or refused, equal bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifact import list_files
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines import child_process, find_engine, tensorrt_api
from pipeline.engines.child_process import run_child
from pipeline.engines.tensorrt import ENGINE, _job
from pipeline.engines.tensorrt_api import find_flavour
from pipeline.errors import MachineError, ToolFailed
from pipeline.graph.decoder import write_decoder
from pipeline.graph.facts import GraphFacts
from pipeline.hardware import Gpu, Hardware
from pipeline.progress import Silent
from pipeline.recipe.schema import Attention, EngineSettings
from tests.tiny_decoder import Shape, random_weights, write_checkpoint

NOTHING = Hardware(num_cpus=2, available_memory_bytes=1 << 34, gpus=())
CHILD = "pipeline.engines.tensorrt_child"


def limits(*targets: str, fused: bool = True, max_seq_len: int = 48) -> EngineSettings:
    return EngineSettings(
        backend="tensorrt",
        max_batch_size=2,
        max_input_len=24,
        max_seq_len=max_seq_len,
        targets=targets or ("sm80", "sm89"),
        attention=Attention(context_fmha=fused, require_fused=fused),
    )


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint in every dtype."""
    made = {}
    for dtype in ("bfloat16", "float16", "float32"):
        shape = replace(Shape(), dtype=dtype)
        made[dtype] = tmp_path_factory.mktemp(dtype)
        write_checkpoint(made[dtype], shape, random_weights(shape))
    return made


def build(folder: Path, out_dir: Path, settings: EngineSettings) -> dict[str, Any]:
    out_dir.mkdir()
    return ENGINE.build(open_trtllm_checkpoint(folder), settings, out_dir, Silent())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_build_is_fused_and_says_what_it_is(
    checkpoints: dict[str, Path], tmp_path: Path, dtype: str
) -> None:
    facts = build(checkpoints[dtype], tmp_path / "engine", limits())
    folder = tmp_path / "engine"
    assert list_files(folder) == ["attention.json", "config.json", "decoder.engine", "decoder.onnx"]
    proof = json.loads((folder / "attention.json").read_bytes())
    num_layers = Shape().num_layers
    assert facts["attention"] == proof["built"]["status"] == "fused"
    assert proof["built"]["attention_layers"] == proof["built"]["attention_sites"] == num_layers
    assert proof["built"]["layers_by_kind"]["KV_CACHE_UPDATE"] == 2 * num_layers
    assert proof["built"]["decomposable"] is False
    assert proof["observed"]["status"] == "not observed"
    config = json.loads((folder / "config.json").read_bytes())
    assert (config["targets"], config["dtype"]) == (["sm80", "sm89"], dtype)


def test_two_builds_give_equal_bytes(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(checkpoints["bfloat16"], tmp_path / "one", limits())
    deeper = tmp_path / "a longer name with spaces" / "two"
    deeper.parent.mkdir()
    monkeypatch.setenv("SOMETHING", "x" * 5000)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.chdir(deeper.parent)
    before = os.umask(0o077)
    try:
        second = build(checkpoints["bfloat16"], deeper, limits())
    finally:
        os.umask(before)
    assert first == second
    assert first["bytes_pinned"] is True
    for name in list_files(deeper):
        assert (tmp_path / "one" / name).read_bytes() == (deeper / name).read_bytes(), name


def test_where_addresses_cannot_be_fixed_the_build_says_so(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "can_fix_addresses", lambda: False)
    facts = build(checkpoints["bfloat16"], tmp_path / "engine", limits("sm80"))
    assert facts["bytes_pinned"] is False
    assert facts["attention"] == "fused"


def test_the_builder_refuses_unfused_attention_by_itself(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    # What `problems` predicts is also what the builder does: the gate is not ours alone.
    with pytest.raises(ToolFailed, match="could not be built") as caught:
        build(checkpoints["float32"], tmp_path / "engine", limits("sm80"))
    assert any("dedicated kernel" in fact for fact in caught.value.facts)
    assert not list_files(tmp_path / "engine")


def test_unfused_attention_is_built_only_when_asked_for(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    facts = build(checkpoints["float32"], tmp_path / "engine", limits("sm80", fused=False))
    proof = json.loads((tmp_path / "engine" / "attention.json").read_bytes())
    assert facts["attention"] == proof["built"]["status"] == "unknown"
    assert proof["built"]["decomposable"] is True
    assert proof["requested"] == {"context_fmha": False, "require_fused": False}


@pytest.fixture
def job(checkpoints: dict[str, Path], tmp_path: Path) -> tuple[dict[str, Any], GraphFacts, Path]:
    """A job in a folder of its own, to be spoilt."""
    checkpoint = open_trtllm_checkpoint(checkpoints["bfloat16"])
    folder = tmp_path / "work"
    folder.mkdir()
    facts = write_decoder(
        checkpoint, folder / "decoder.onnx", max_seq_len=48, compute_dtype="bfloat16"
    )
    for name in facts.weight_files:
        (folder / name).hardlink_to(checkpoint.path / name)
    flavour = find_flavour()
    assert flavour is not None
    return _job(flavour, limits("sm80"), facts), facts, folder


def test_a_dropped_input_is_an_error(
    checkpoints: dict[str, Path], job: tuple[dict[str, Any], GraphFacts, Path]
) -> None:
    # The parser takes the lengths form and leaves `nonpad_kv_seqlen` unused, without an error.
    made, _, folder = job
    checkpoint = open_trtllm_checkpoint(checkpoints["bfloat16"])
    facts = write_decoder(
        checkpoint,
        folder / "decoder.onnx",
        max_seq_len=48,
        compute_dtype="bfloat16",
        form="lengths",
    )
    made["inputs"] = [port.name for port in facts.inputs]
    with pytest.raises(ToolFailed, match="nonpad_kv_seqlen"):
        run_child(CHILD, made, folder, lambda _: None)


def test_fewer_attention_layers_than_sites_are_an_error(
    job: tuple[dict[str, Any], GraphFacts, Path],
) -> None:
    made, facts, folder = job
    made["attention_sites"] = facts.attention_sites + 1
    with pytest.raises(ToolFailed, match=f"{facts.attention_sites} attention layers"):
        run_child(CHILD, made, folder, lambda _: None)


def test_a_graph_that_is_none_is_one_clear_error(
    job: tuple[dict[str, Any], GraphFacts, Path],
) -> None:
    made, _, folder = job
    (folder / "decoder.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(ToolFailed) as caught:
        run_child(CHILD, made, folder, lambda _: None)
    assert caught.value.hint


def test_progress_comes_from_the_builder(job: tuple[dict[str, Any], GraphFacts, Path]) -> None:
    made, _, folder = job
    events: list[dict[str, Any]] = []
    run_child(CHILD, made, folder, events.append)
    assert any(event["event"] == "phase" and event["total"] > 0 for event in events)
    assert any(event["event"] == "step" for event in events)


def test_a_killed_builder_is_an_error(job: tuple[dict[str, Any], GraphFacts, Path]) -> None:
    made, _, folder = job

    def kill(event: dict[str, Any]) -> None:
        if event["event"] == "phase":
            children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
            pids = {int(pid) for path in children for pid in path.read_text().split()}
            builders = [pid for pid in pids if CHILD in Path(f"/proc/{pid}/cmdline").read_text()]
            for pid in builders:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(ToolFailed, match="signal 9"):
        run_child(CHILD, made, folder, kill)


def test_the_builder_dies_with_its_parent(
    job: tuple[dict[str, Any], GraphFacts, Path], tmp_path: Path
) -> None:
    made, _, folder = job
    code = (
        "import json, sys\nfrom pathlib import Path\n"
        "from pipeline.engines.child_process import run_child\n"
        f"run_child({CHILD!r}, json.loads(sys.argv[1]), Path(sys.argv[2]),"
        " lambda event: print('going', flush=True))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(made), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "going\n"
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert len(children) == 1
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{children[0]}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{children[0]}").exists()


def problems(dtype: str = "bfloat16", head_size: int = 64, **settings: Any) -> list[str]:
    config = {
        "architecture": "LlamaForCausalLM",
        "dtype": dtype,
        "hidden_size": 4 * head_size,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 2,
        "head_size": head_size,
        "intermediate_size": 128,
        "vocab_size": 99,
        "hidden_act": "silu",
        "norm_epsilon": 1e-5,
        "position_embedding_type": "rope_gpt_neox",
        "max_position_embeddings": 65536,
        "rotary_base": 10000.0,
        "rotary_scaling": None,
        "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
        "quantization": {"quant_algo": None, "kv_cache_quant_algo": None},
    }
    targets = settings.pop("targets", ("sm80", "sm89"))
    hardware = settings.pop("hardware", NOTHING)
    found = ENGINE.problems(config, limits(*targets, **settings), hardware)
    assert all(problem.stage == "build" for problem in found)
    return [f"{problem.message} hint: {problem.hint}" for problem in found]


def test_what_compiles_has_no_problems() -> None:
    assert problems() == []
    assert problems("float16", targets=("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")) == []


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"dtype": "float32"}, "float32"),
        ({"head_size": 8}, "head size 8"),
        ({"head_size": 264}, "head size 264"),
        ({"head_size": 68}, "head size 68"),
        ({"targets": ("sm90",)}, "tensorrt-cu13"),
        ({"targets": ("sm80", "sm100")}, "sm100"),
        ({"targets": ("sm75",)}, "bfloat16 on sm75"),
        ({"max_seq_len": 32768}, "32768"),
    ],
    ids=str,
)
def test_what_does_not_is_refused_with_the_reason(given: dict[str, Any], word: str) -> None:
    found = problems(**given)
    assert len(found) == 1
    assert word in found[0]
    assert "hint: None" not in found[0]


def test_tensorrt_itself_builds_for_the_gpu_that_is_present(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions = {"tensorrt-cu13": "10.14.1.48", "onnx": "1.19.0"}
    monkeypatch.setattr(tensorrt_api, "version", versions.__getitem__)
    flavour = find_flavour()
    assert flavour is not None
    assert (flavour.is_rtx, flavour.title) == (False, "TensorRT 10.14.1.48")
    hopper = Hardware(2, 1 << 34, (Gpu("H100", "sm90", 80 << 30, "580"),))
    assert problems(targets=("sm90",), hardware=hopper) == []
    assert "sm80" in problems(targets=("sm80",), hardware=hopper)[0]


def test_without_any_tensorrt_the_backend_explains_itself(
    monkeypatch: pytest.MonkeyPatch, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    def absent(name: str) -> str:
        raise tensorrt_api.PackageNotFoundError(name)

    monkeypatch.setattr(tensorrt_api, "version", absent)
    assert "trtllm-pack[rtx]" in str(ENGINE.why_unavailable())
    with pytest.raises(MachineError):
        build(checkpoints["bfloat16"], tmp_path / "engine", limits())


def test_running_is_never_pretended() -> None:
    assert "no NVIDIA GPU" in str(ENGINE.why_not_runnable(limits("sm89"), NOTHING))
    with pytest.raises(MachineError):
        ENGINE.load(Path(), Path())


def test_trtllm_is_a_clear_error_not_a_stub(tmp_path: Path) -> None:
    engine = find_engine("trtllm")
    assert "not part of this version" in str(engine.why_unavailable())
    found = engine.problems({}, limits("sm90"), NOTHING)
    assert [problem.kind for problem in found] == [MachineError]
    assert "tensorrt" in str(found[0].hint)
    with pytest.raises(MachineError):
        engine.load(tmp_path, tmp_path)


def test_the_child_hears_only_what_it_must(
    job: tuple[dict[str, Any], GraphFacts, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 30)
    seen: list[str] = []

    def look(event: dict[str, Any]) -> None:
        children = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children")
        seen.extend(
            Path(f"/proc/{pid}/environ").read_text() for pid in children.read_text().split()
        )

    made, _, folder = job
    run_child(CHILD, made, folder, look)
    assert seen
    assert not any("HF_TOKEN" in text for text in seen)
