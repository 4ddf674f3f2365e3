"""Builds by the stand-in for `trtllm-build`: the engine folder, its records, its failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifact import list_files
from pipeline.engines.attention_proof import check_proof, read_proof
from pipeline.engines.trtllm import timing_caches
from pipeline.engines.trtllm.build_endings import build_failure
from pipeline.engines.trtllm.environment import kept_variables
from pipeline.engines.trtllm.follow import BuildLog
from pipeline.errors import PipelineError, ResourceError, ToolFailed
from pipeline.files.digests import digest_file
from pipeline.hardware import detect
from pipeline.progress import Silent
from tests.engines.trtllm.building import build, checkpoint, settings
from tests.standins import GPUS, VERSIONS, Standin
from tests.standins.trtllm_build import TIMINGS_MAGIC, weights_of


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standin:
    made = Standin(tmp_path / "machine")
    made.use(monkeypatch)
    return made


def read(path: Path) -> Any:
    return json.loads(path.read_bytes())


def test_the_engine_folder_is_tensorrt_llms_and_ours_beside_it(
    standin: Standin, tmp_path: Path
) -> None:
    source = checkpoint(tmp_path / "checkpoint")
    facts = build(source, tmp_path / "out")
    folder = tmp_path / "out"
    assert list_files(folder) == [
        *("attention.json", "build.log", "config.json", "engine.json", "rank0.engine"),
        *("rank0.log", "timing.cache"),
    ]
    assert weights_of(folder / "rank0.engine") == (source.path / "rank0.safetensors").read_bytes()
    assert read(folder / "config.json").keys() == {"version", "pretrained_config", "build_config"}
    size_bytes = (folder / "rank0.engine").stat().st_size
    assert facts["engine_bytes"] == size_bytes
    assert facts["rank_bytes"] == {"rank0.engine": size_bytes}
    assert (facts["attention"], facts["attention_sites"], facts["attention_layers"]) == (
        *("fused", 3),
        3,
    )
    assert json.loads(json.dumps(facts)) == facts


def test_the_record_says_what_was_asked_and_on_what(standin: Standin, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "checkpoint")
    build(source, tmp_path / "out", settings(gemm_plugin="auto"))
    record = read(tmp_path / "out" / "engine.json")
    assert (record["backend"], record["dtype"], record["targets"]) == (
        *("trtllm", "bfloat16"),
        ["sm90"],
    )
    assert (record["max_batch_size"], record["max_input_len"], record["max_seq_len"]) == (2, 24, 48)
    assert record["tool_versions"] == VERSIONS
    assert record["built_on"] == {"gpus": [GPUS[0]["name"]], "drivers": ["580.95.05"]}
    assert record["checkpoint"] == source.config
    (call,) = standin.calls()
    pairs = dict(zip(record["argv"][1:], record["argv"][2:], strict=False))
    assert pairs["--checkpoint_dir"] == "{checkpoint}"
    assert pairs["--gemm_plugin"] == "bfloat16"
    placed = {"{checkpoint}": str(source.path), "{engine}": str(tmp_path / "out/.build/engine")}
    placed["{timing_cache}"] = str(tmp_path / "out/.build/timing.cache")
    said = [placed.get(item, item) for item in record["argv"][1:]]
    at = call["argv"].index("--workers")
    assert said == call["argv"][:at] + call["argv"][at + 2 :]
    plugins = record["build_config"]["plugin_config"]
    found = read(tmp_path / "out" / "config.json")["build_config"]
    assert plugins.items() <= found["plugin_config"].items()
    asked = {key: value for key, value in record["build_config"].items() if key != "plugin_config"}
    assert asked.items() <= found.items()


def test_two_builds_leave_equal_records(standin: Standin, tmp_path: Path) -> None:
    source, cache = checkpoint(tmp_path / "checkpoint"), tmp_path / "cache"
    facts = [
        build(source, tmp_path / name, settings(workers=number), cache)
        for name, number in (("one", 1), ("two", 2))
    ]
    assert facts[0] == facts[1]
    for name in ("attention.json", "config.json", "build.log", "rank0.log"):
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        hidden = [tmp_path.name.encode(), str(source.path).encode()]
        if name != "config.json":
            assert not any(path in one for path in hidden)
            assert one == two, name
    records = [read(tmp_path / folder / "engine.json") for folder in ("one", "two")]
    caches = [record.pop("timing_cache") for record in records]
    assert records[0] == records[1]
    assert caches[0]["size_bytes"] < caches[1]["size_bytes"]


def test_the_proof_rests_on_config_and_log_and_says_so(standin: Standin, tmp_path: Path) -> None:
    build(checkpoint(tmp_path / "checkpoint"), tmp_path / "out")
    proof = read_proof(tmp_path / "out")
    check_proof(proof, settings().attention)
    assert proof["built"]["status"] == "fused"
    assert "config.json" in proof["built"]["evidence"]
    assert "log" in proof["built"]["evidence"]
    assert proof["built"]["levels"]["kernel trace"].startswith("not looked at")
    assert proof["observed"]["status"] == "not observed"


@pytest.mark.parametrize("workers", [1, 2])
def test_ranks_have_their_files_and_logs(standin: Standin, tmp_path: Path, workers: int) -> None:
    source = checkpoint(tmp_path / "checkpoint", tp_size=2)
    facts = build(source, tmp_path / "out", settings(workers=workers))
    assert facts["world_size"] == 2
    assert facts["rank_bytes"].keys() == {"rank0.engine", "rank1.engine"}
    for rank in (0, 1):
        weights = (source.path / f"rank{rank}.safetensors").read_bytes()
        assert weights_of(tmp_path / "out" / f"rank{rank}.engine") == weights
        text = (tmp_path / "out" / f"rank{rank}.log").read_text()
        assert f"rank{rank}.engine" in text
        assert f"rank{1 - rank}.engine" not in text
        # Ranks that are built at once tell themselves apart by their files alone.
        assert ("Total time of constructing network" in text) == (workers == 1)


def test_timings_are_taken_and_returned(standin: Standin, tmp_path: Path) -> None:
    source, cache = checkpoint(tmp_path / "checkpoint"), tmp_path / "cache"
    for number in (1, 2, 3):
        build(source, tmp_path / f"out{number}", cache_dir=cache)
        kept = (tmp_path / f"out{number}" / "timing.cache").read_bytes()
        assert kept == TIMINGS_MAGIC + b"one more\n" * number
    given = [call["argv"].count("--input_timing_cache") for call in standin.calls()]
    assert given == [0, 1, 1]
    record = read(tmp_path / "out3" / "engine.json")["timing_cache"]
    assert record["blake3"] == digest_file(tmp_path / "out3" / record["path"])
    build(source, tmp_path / "without", settings(use_timing_cache=False), cache)
    assert "--input_timing_cache" not in standin.calls()[-1]["argv"]
    (stored,) = (cache / "timing").iterdir()
    assert timing_caches.take(stored, tmp_path / "taken")
    assert (tmp_path / "taken").read_bytes() == TIMINGS_MAGIC + b"one more\n" * 3


def test_timings_of_another_machine_are_not_taken(standin: Standin, tmp_path: Path) -> None:
    (gpu, _) = detect().gpus
    paths = {timing_caches.cache_path(tmp_path, gpu, VERSIONS)}
    for change in ({"driver_version": "590.1"}, {"name": "NVIDIA H200"}, {"compute_cap": "8.9"}):
        standin.set_gpus([GPUS[0] | change])
        paths.add(timing_caches.cache_path(tmp_path, detect().gpus[0], VERSIONS))
    for name in VERSIONS:
        paths.add(timing_caches.cache_path(tmp_path, gpu, {**VERSIONS, name: "1.2.2"}))
    assert len(paths) == 6


@pytest.mark.parametrize("spoil", [b"", b"short", b"x" * 100])
def test_damaged_timings_are_dropped(standin: Standin, tmp_path: Path, spoil: bytes) -> None:
    stored = tmp_path / "timing" / "a.cache"
    stored.parent.mkdir()
    stored.write_bytes(spoil)
    assert not timing_caches.take(stored, tmp_path / "taken")
    assert not stored.exists()
    assert not (tmp_path / "taken").exists()


def test_timings_that_tensorrt_cannot_read_are_dropped(standin: Standin, tmp_path: Path) -> None:
    source, cache = checkpoint(tmp_path / "checkpoint"), tmp_path / "cache"
    build(source, tmp_path / "one", cache_dir=cache)
    (stored,) = (cache / "timing").iterdir()
    (tmp_path / "other").write_bytes(b"of another version")
    timing_caches.give_back(tmp_path / "other", stored)
    with pytest.raises(ToolFailed, match="timing cache, which is deleted now"):
        build(source, tmp_path / "two", cache_dir=cache)
    assert not stored.exists()
    build(source, tmp_path / "three", cache_dir=cache)
    assert stored.exists()


def test_a_failed_build_returns_no_timings(standin: Standin, tmp_path: Path) -> None:
    standin.control(leave_out=[0])
    with pytest.raises(PipelineError, match="one whole engine file"):
        build(checkpoint(tmp_path / "c"), tmp_path / "out", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    assert list((tmp_path / "out").iterdir()) == []


def log_of(folder: Path, *lines: str) -> BuildLog:
    log = BuildLog(folder, 1, is_in_turn=True, progress=Silent())
    with log.open():
        for line in lines:
            log.line("stdout", line)
    return log


LOST = (
    "concurrent.futures.process.BrokenProcessPool: A process in the process pool was terminated "
    "abruptly while the future was running or pending."
)
ABORT = "  what():  [TensorRT-LLM][ERROR] Assertion failed: Head size 20 is not supported by MMHA."


@pytest.mark.parametrize(
    ("code", "line", "kind", "message"),
    [
        (1, "RuntimeError: some fault", ToolFailed, "failed with exit code 1"),
        (1, "torch.OutOfMemoryError: CUDA out of memory.", ResourceError, "GPU ran out of memory"),
        (1, "OSError: [Errno 28] No space left on device", ResourceError, "the disk was full"),
        (-9, "", ResourceError, "most likely for want of memory"),
        (-6, ABORT, ToolFailed, "the attention plugin of TensorRT-LLM refuses"),
        (-6, "double free", ToolFailed, "signal SIGABRT"),
        (-40, "", ToolFailed, "failed with signal 40"),
        (137, "", ResourceError, "most likely for want of memory"),
        (1, LOST, ResourceError, "a rank's process of `trtllm-build` was killed"),
        (2, "error: unrecognized arguments: --x", ToolFailed, "does not know its command line"),
        (None, "", ToolFailed, "had not finished after 9 s"),
    ],
)
def test_each_end_has_its_message(
    tmp_path: Path, code: int | None, line: str, kind: type[PipelineError], message: str
) -> None:
    error = build_failure(code, log_of(tmp_path / "log", "first line", line), 9)
    assert type(error) is kind
    assert message in error.message
    assert error.facts[-1] == (line or "")
    assert "first line" in error.facts


@pytest.mark.parametrize("how", ["exception", "kill", 7])
def test_a_program_that_fails_leaves_nothing(
    standin: Standin, tmp_path: Path, how: str | int
) -> None:
    standin.control(die={"step": "engine", "rank": 0, "how": how})
    with pytest.raises((ToolFailed, ResourceError)) as caught:
        build(checkpoint(tmp_path / "checkpoint"), tmp_path / "out")
    assert any("Build TensorRT engine" in fact for fact in caught.value.facts)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_build_that_takes_too_long_is_stopped(standin: Standin, tmp_path: Path) -> None:
    standin.control(hang={"step": "network", "rank": 0}, grandchild=True)
    chosen = settings(build_timeout_s=1)
    with pytest.raises(ToolFailed, match="had not finished after 1 s") as caught:
        build(checkpoint(tmp_path / "checkpoint"), tmp_path / "out", chosen)
    assert "engine.build_timeout_s" in str(caught.value.hint)


def test_a_failing_worker_of_several_is_a_failure(standin: Standin, tmp_path: Path) -> None:
    standin.control(die={"step": "engine", "rank": 1, "how": "exception"})
    source = checkpoint(tmp_path / "checkpoint", tp_size=2)
    with pytest.raises(ToolFailed, match="exit code 1"):
        build(source, tmp_path / "out", settings(workers=2))
    assert list((tmp_path / "out").iterdir()) == []


def test_the_builder_gets_no_secret_and_no_launcher(
    standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
    for name in hidden:
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("OMPI_MCA_btl", "self,tcp")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/lib")
    build(checkpoint(tmp_path / "checkpoint"), tmp_path / "out")
    (call,) = standin.calls()
    found = call["environment"]
    assert not found.keys() & set(hidden)
    assert found["OMPI_MCA_btl"] == "self,tcp"
    assert found["LD_LIBRARY_PATH"] == "/usr/lib"
    assert found["TLLM_LOG_LEVEL"] == "info"
    assert found["CUDA_VISIBLE_DEVICES"] == GPUS[0]["uuid"]
    assert found["HOME"] == found["TMPDIR"]
    assert not Path(found["HOME"]).exists()  # a scratch folder, gone with the build
    assert kept_variables({"PATH": "a", "PATHS": "b", "OMPI_MCA_x": "c"}) == {
        "PATH": "a",
        "OMPI_MCA_x": "c",
    }


def test_a_traceback_is_shown_by_its_end(tmp_path: Path) -> None:
    stack = ["Traceback (most recent call last):", *['  File "x.py", line 1, in f'] * 300]
    log = log_of(tmp_path / "log", "before", *stack, "RuntimeError: it", "after")
    assert log.tail() == ["before", "RuntimeError: it", "after"]
