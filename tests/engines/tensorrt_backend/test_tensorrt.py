"""The backend `tensorrt`, with real builds by TensorRT for RTX: fused or refused, equal bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.artifact import list_files
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines import child_setup
from pipeline.engines.tensorrt import ENGINE
from pipeline.engines.tensorrt import api as tensorrt_api
from pipeline.engines.tensorrt.api import find_flavour
from pipeline.engines.tensorrt.record import LOG_NAME, write_log
from pipeline.errors import MachineError, ToolFailed
from pipeline.hardware import Gpu, Hardware, detect
from pipeline.progress import Silent
from tests.engines.tensorrt_backend.tensorrt_parts import ALL_TARGETS, build, checkpoint, limits
from tests.tiny_decoder import Shape

NOTHING = Hardware(num_cpus=2, available_memory_bytes=1 << 34, gpus=())
NUM_LAYERS = Shape().num_layers


@pytest.fixture(scope="module")
def bfloat16(tmp_path_factory: pytest.TempPathFactory) -> TrtllmCheckpoint:
    return checkpoint(tmp_path_factory.mktemp("bfloat16"))


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> TrtllmCheckpoint:
    return checkpoint(tmp_path_factory.mktemp("float32"), "float32")


@pytest.mark.parametrize(
    ("dtype", "targets"), [("bfloat16", ALL_TARGETS[1:]), ("float16", ALL_TARGETS)]
)
def test_a_build_is_fused_for_every_target_and_says_what_it_is(
    tmp_path: Path, dtype: str, targets: tuple[str, ...]
) -> None:
    source, folder = checkpoint(tmp_path / "source", dtype), tmp_path / "engine"
    settings = limits(*targets)
    facts = build(source, folder, settings)
    assert list_files(folder) == ["attention.json", "decoder.engine", "decoder.onnx", "engine.json"]
    built = json.loads((folder / "attention.json").read_bytes())["built"]
    assert facts["attention"] == built["status"] == "fused"
    assert built["attention_layers"] == built["attention_sites"] == NUM_LAYERS
    assert built["decomposable"] is False
    assert built["kernels"]["listed"] is True
    assert set(built["kernels"]["fused"]) == {"_gemm_mha_v2", "_gemv_mha_v1"}
    assert built["kernels"]["layers_fused"] == NUM_LAYERS
    assert built["kernels"]["layers_unfused"] == 0
    assert facts["layers_by_kind"]["KV_CACHE_UPDATE"] == 2 * NUM_LAYERS
    assert {"float16": "HALF", "bfloat16": "BF16"}[dtype] in facts["dtypes"]
    config = json.loads((folder / "engine.json").read_bytes())
    assert (config["targets"], config["dtype"]) == (list(targets), dtype)
    assert config["profiles"] == {"context_tokens": 24, "generation_tokens": 1}
    size = (folder / "decoder.engine").stat().st_size
    assert size == facts["engine_bytes"]
    assert size < ENGINE.estimate(source.config, settings, source.weight_bytes)["disk_bytes"]


def test_what_was_not_observed_is_written_so(bfloat16: TrtllmCheckpoint, tmp_path: Path) -> None:
    build(bfloat16, tmp_path / "engine", limits("sm80"))
    proof = json.loads((tmp_path / "engine" / "attention.json").read_bytes())
    assert proof["requested"] == {"context_fmha": True, "require_fused": True}
    assert proof["observed"]["status"] == "not observed"
    assert proof["observed"]["reason"]


def test_two_builds_give_equal_bytes(
    bfloat16: TrtllmCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(bfloat16, tmp_path / "one", limits())
    deeper = tmp_path / "a longer name with spaces" / "two"
    deeper.parent.mkdir()
    monkeypatch.setenv("SOMETHING", "x" * 5000)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.chdir(deeper.parent)
    before = os.umask(0o077)
    try:
        second = build(bfloat16, deeper, limits())
    finally:
        os.umask(before)
    assert first == second
    assert first["bytes_pinned"] is True
    for name in list_files(deeper):
        assert (tmp_path / "one" / name).read_bytes() == (deeper / name).read_bytes(), name


def test_a_build_from_another_installation_gives_equal_bytes(
    bfloat16: TrtllmCheckpoint, tmp_path: Path
) -> None:
    build(bfloat16, tmp_path / "one", limits())
    home = tmp_path / "another" / "installation of the package"
    package = Path(child_setup.__file__).parent.parent
    shutil.copytree(package, home / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import sys\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(home)!r})\n"
        "from pipeline.checkpoint.trtllm import open_trtllm_checkpoint\n"
        "from pipeline.engines.tensorrt import ENGINE\n"
        "from pipeline.progress import Silent\n"
        "from pipeline.recipe.schema import EngineSettings\n"
        "source, out_dir, settings = sys.argv[1:]\n"
        "Path(out_dir).mkdir()\n"
        "ENGINE.build(open_trtllm_checkpoint(Path(source)),\n"
        "    EngineSettings.model_validate_json(settings), Path(out_dir), Silent())\n"
        f"assert sys.modules['pipeline'].__file__.startswith({str(home)!r})\n"
    )
    arguments = [str(bfloat16.path), str(tmp_path / "two"), limits().model_dump_json()]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, timeout=280)
    engines = [(tmp_path / name / "decoder.engine").read_bytes() for name in ("one", "two")]
    assert engines[0] == engines[1]


def test_the_builder_refuses_by_itself_what_has_no_fused_kernel(
    float32: TrtllmCheckpoint, tmp_path: Path
) -> None:
    # What `problems` predicts is also what the builder does: the gate is not ours alone.
    assert ENGINE.problems(float32.config, limits("sm80"), NOTHING)
    with pytest.raises(ToolFailed, match="no fused attention kernel") as caught:
        build(float32, tmp_path / "engine", limits("sm80"))
    assert any("dedicated kernel" in fact for fact in caught.value.facts)
    assert "context_fmha: false" in str(caught.value.hint)
    assert not list_files(tmp_path / "engine")


def test_unfused_attention_is_built_only_when_asked_for(
    float32: TrtllmCheckpoint, tmp_path: Path
) -> None:
    settings = limits("sm80", fused=False)
    assert ENGINE.problems(float32.config, settings, NOTHING) == []
    facts = build(float32, tmp_path / "engine", settings)
    proof = json.loads((tmp_path / "engine" / "attention.json").read_bytes())
    # The engine itself lists a softmax of its own for every layer: said, not guessed.
    assert facts["attention"] == proof["built"]["status"] == "unfused"
    assert proof["built"]["decomposable"] is True
    assert proof["built"]["kernels"]["layers_unfused"] == NUM_LAYERS
    assert proof["requested"] == {"context_fmha": False, "require_fused": False}


def test_tensor_and_pipeline_parallel_ranks_are_one_engine(tmp_path: Path) -> None:
    from tests.tiny_decoder import random_weights, write_checkpoint

    shape = Shape(dtype="float16")
    folder = write_checkpoint(tmp_path / "source", shape, random_weights(shape), 2, 2)
    from pipeline.checkpoint.trtllm import open_trtllm_checkpoint

    facts = build(open_trtllm_checkpoint(folder), tmp_path / "engine", limits("sm80"))
    assert facts["attention_layers"] == NUM_LAYERS


def test_progress_comes_from_the_builder(bfloat16: TrtllmCheckpoint, tmp_path: Path) -> None:
    tasks: list[tuple[str, int]] = []
    steps: list[int] = []

    class Counting(Silent):
        def start(self, task: str, total: int, unit: str = "bytes") -> None:
            assert unit == "steps"
            tasks.append((task, total))

        def advance(self, amount: int) -> None:
            steps.append(amount)

    (tmp_path / "engine").mkdir()
    ENGINE.build(bfloat16, limits("sm80"), tmp_path / "engine", Counting())
    assert tasks
    assert 0 < sum(steps) <= sum(total for _, total in tasks)


def test_cancelling_leaves_nothing(bfloat16: TrtllmCheckpoint, tmp_path: Path) -> None:
    class Cancelling(Silent):
        def start(self, task: str, total: int, unit: str = "bytes") -> None:
            raise KeyboardInterrupt

    (tmp_path / "engine").mkdir()
    with pytest.raises(KeyboardInterrupt):
        ENGINE.build(bfloat16, limits("sm80"), tmp_path / "engine", Cancelling())
    assert not list((tmp_path / "engine").iterdir())


def test_warnings_are_kept_without_what_differs_by_run(tmp_path: Path) -> None:
    assert write_log(tmp_path, []) == []
    assert not list(tmp_path.iterdir())
    warnings = ["warning: at 0x7f12ab, after 12.5 ms", "warning: 3 layers"]
    assert write_log(tmp_path, warnings) == ["warning: at *, after *", "warning: 3 layers"]
    kept = (tmp_path / LOG_NAME).read_text().splitlines()
    assert kept == ["warning: at *, after *", "warning: 3 layers"]


def test_tool_versions_name_the_flavour() -> None:
    names = ENGINE.tool_versions()
    assert {"onnx", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs"} == set(names)
    assert all(text[0].isdigit() for text in names.values())


def test_explaining_imports_no_tensorrt() -> None:
    code = (
        "import sys\nfrom pipeline.engines import find_engine\n"
        "from pipeline.hardware import detect\n"
        "engine = find_engine('tensorrt')\n"
        "assert engine.why_unavailable(detect()) is None\nassert engine.tool_versions()\n"
        "heavy = {'numpy', 'onnx', 'tensorrt_rtx_bindings', 'tensorrt_rtx_libs', 'cuda'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=280)


def _installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    named = {name.replace("_", "-"): text for name, text in versions.items()}

    def version(name: str) -> str:
        if name not in named:
            raise tensorrt_api.PackageNotFoundError(name)
        return named[name]

    monkeypatch.setattr(tensorrt_api, "version", version)


def test_tensorrt_itself_goes_first_and_builds_for_the_gpu_that_is_present(
    bfloat16: TrtllmCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    rtx = {"tensorrt_rtx_cu13_bindings": "1.7.1.116", "tensorrt_rtx_cu13_libs": "1.7.1.116"}
    _installed(monkeypatch, tensorrt_cu13="10.15.1.29", **rtx)
    flavour = find_flavour()
    assert flavour is not None
    assert (flavour.is_rtx, flavour.title) == (False, "TensorRT 10.15.1.29")
    assert flavour.modules == ("tensorrt",)
    hopper = Hardware(2, 1 << 34, (Gpu("H100", "sm90", 80 << 30, "580"),))
    assert ENGINE.problems(bfloat16.config, limits("sm90"), hopper) == []
    (problem,) = ENGINE.problems(bfloat16.config, limits("sm80"), hopper)
    assert "builds for the GPU that is present: sm90" in problem.message
    assert problem.kind is MachineError


def test_a_tensorrt_without_the_layers_that_the_graph_needs_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _installed(monkeypatch, tensorrt="10.14.1.48")
    assert find_flavour() is None
    assert "10.14.1.48" in str(ENGINE.why_unavailable(detect()))


def test_without_any_tensorrt_the_backend_explains_itself(
    bfloat16: TrtllmCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(monkeypatch)
    assert "trtllm-pack[rtx]" in str(ENGINE.why_unavailable(detect()))
    with pytest.raises(MachineError, match="rtx"):
        build(bfloat16, tmp_path / "engine", limits())


def test_running_is_never_pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no NVIDIA GPU" in str(ENGINE.why_not_runnable(limits("sm89"), NOTHING))
    ada = Hardware(2, 1 << 34, (Gpu("L4", "sm89", 24 << 30, "580"),))
    assert "sm89" in str(ENGINE.why_not_runnable(limits("sm80"), ada))
    rtx = {"tensorrt_rtx_cu13_bindings": "1.7.1.116", "tensorrt_rtx_cu13_libs": "1.7.1.116"}
    _installed(monkeypatch, **rtx)
    assert "trtllm-pack[run]" in str(ENGINE.why_not_runnable(limits("sm89"), ada))
    with pytest.raises(MachineError, match="cuda-bindings"):
        ENGINE.load(tmp_path, tmp_path)
    _installed(monkeypatch, **rtx, cuda_bindings="13.5.0")
    assert ENGINE.why_not_runnable(limits("sm89"), ada) is None
