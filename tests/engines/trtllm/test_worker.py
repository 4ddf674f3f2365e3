"""The engine of TensorRT-LLM as a generator: its worker on the stand-in `LLM`."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.engines.generation import Sampling
from pipeline.engines.generator import GenerationRequest
from pipeline.engines.reference import open_reference
from pipeline.engines.trtllm import generator as module
from pipeline.engines.trtllm.generator import TrtllmGenerator, open_generator
from pipeline.errors import (
    MachineError,
    PipelineError,
    ResourceError,
    ToolFailed,
    VerificationError,
)
from pipeline.recipe.schema import EngineSettings
from tests.engines.trtllm.engines import LIMITS, write_engine
from tests.standins import Standin
from tests.standins.llm import install_llm, llm_calls, set_llm
from tests.tiny_decoder import Shape

SHAPE = replace(Shape(), vocab_size=298, dtype="bfloat16")
PROMPTS = ((5, 6, 7, 8), (9, 10, 11))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standin:
    """A stand-in machine with TensorRT-LLM."""
    found = Standin(tmp_path / "machine")
    install_llm(found)
    found.use(monkeypatch)
    return found


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine of one rank."""
    return write_engine(tmp_path / "engine", SHAPE)


def requests(*ends: int, num_new: int = 6, logits: bool = False) -> list[GenerationRequest]:
    """Greedy requests for the prompts."""
    sampling = Sampling(num_new, stop_token_ids=frozenset(ends))
    return [GenerationRequest(prompt, sampling, logits) for prompt in PROMPTS]


def expected(engine: Path, wanted: Sequence[GenerationRequest]) -> list[tuple[int, ...]]:
    """Tokens of the same model by the decoder graph."""
    with open_reference(engine.parent / "checkpoint", EngineSettings(**LIMITS)) as reference:
        return [found.token_ids for found in reference.generate(wanted)]


def test_the_engine_generates_and_its_kernels_are_seen(machine: Standin, engine: Path) -> None:
    wanted = requests()
    with open_generator(engine) as generator:
        found = generator.generate(wanted)
        observed, by = generator.observed(), generator.executed_by
    assert [one.token_ids for one in found] == expected(engine, wanted)
    assert [one.stop_reason for one in found] == ["length", "length"]
    assert observed is not None
    assert (observed["status"], observed["level"]) == ("fused", "kernel")
    assert "a prompt of 24 tokens, then 8 generated ones" in observed["evidence"]
    assert by["backend"] == "trtllm"
    assert by["device"] == "NVIDIA H100 80GB HBM3"
    loaded, *generated = llm_calls(machine)
    assert loaded["environment"]["FORCE_DETERMINISTIC"] == "1"
    assert loaded["environment"]["CUDA_VISIBLE_DEVICES"].startswith("GPU-1")
    counts = [[params["max_tokens"] for params in call["given"]] for call in generated]
    assert counts == [[6, 6], [1], [8]]


def test_end_tokens_are_put_back_and_stop_texts_cut(machine: Standin, engine: Path) -> None:
    full = expected(engine, requests())
    for strip in (False, True):
        set_llm(machine, strip_end=strip)
        ends = (min(full[0][2], full[1][3]), max(full[0][2], full[1][3]))
        found = open_generator(engine).generate(requests(*ends))
        assert [one.token_ids for one in found] == expected(engine, requests(*ends))
        assert [one.stop_reason for one in found] == ["end", "end"]
    seen: list[tuple[int, int]] = []

    def stop_second(index: int, token_id: int) -> bool:
        seen.append((index, token_id))
        return index == 0 and len(seen) == 2

    found = open_generator(engine).generate(requests(), stop_second)
    assert (found[0].token_ids, found[0].stop_reason) == (full[0][:2], "stop")
    assert found[1].token_ids == full[1]
    assert seen[:2] == [(0, full[0][0]), (0, full[0][1])]


def test_prompt_logits_come_where_the_engine_gathers_them(machine: Standin, tmp_path: Path) -> None:
    plain = write_engine(tmp_path / "plain", SHAPE)
    gathering = write_engine(tmp_path / "gathering", SHAPE, gather_context_logits=True)
    wanted = requests(logits=True)
    assert open_generator(plain).generate(wanted)[0].prompt_logits is None
    found = open_generator(gathering).generate(wanted)
    with open_reference(tmp_path / "checkpoint", EngineSettings(**LIMITS)) as reference:
        for one, other in zip(found, reference.generate(wanted), strict=True):
            assert one.prompt_logits is not None
            assert other.prompt_logits is not None
            assert one.prompt_logits.shape == (*other.prompt_logits.shape[:1], 298 + 6)
            np.testing.assert_allclose(one.prompt_logits[:, :298], other.prompt_logits, atol=1e-4)


def test_two_ranks_are_not_traced_without_nsys(
    machine: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "nsys" else which(name))
    engine = write_engine(tmp_path / "engine", SHAPE, tp_size=2)
    with open_generator(engine) as generator:
        found = generator.generate(requests())
    assert [one.token_ids for one in found] == expected(engine, requests())
    observed = generator.observed()
    assert observed is not None
    assert observed["status"] == "not observed"
    assert "`nsys`" in observed["reason"]
    assert "2 ranks" in generator.executed_by["note"]
    assert llm_calls(machine)[0]["given"]["tensor_parallel_size"] == 2


_NSYS = """#!{python}
import sqlite3, subprocess, sys
options = [item for item in sys.argv[2:] if item.startswith("--")]
target = next(item for item in options if item.startswith("--output=")).partition("=")[2]
code = subprocess.run(sys.argv[2 + len(options):]).returncode
with sqlite3.connect(target + ".sqlite") as database:
    database.execute("CREATE TABLE StringIds (id INTEGER, value TEXT)")
    database.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (demangledName INTEGER)")
    for number, name in enumerate({kernels!r}):
        database.execute("INSERT INTO StringIds VALUES (?, ?)", (number, name))
        database.execute("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?)", (number,))
database.close()
sys.exit(code)
"""


def test_two_ranks_are_watched_from_outside(machine: Standin, tmp_path: Path) -> None:
    kernels = ("fmha_v2_flash_attention_fp16_64_64_S_qkv_64_causal_sm80_kernel_nl", "kernel_mha")
    program = machine.folder / "bin" / "nsys"
    program.write_text(_NSYS.format(python=sys.executable, kernels=kernels))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    engine = write_engine(tmp_path / "engine", SHAPE, tp_size=2)
    with open_generator(engine) as generator:
        generator.generate(requests())
    observed = generator.observed()
    assert observed is not None
    assert observed["status"] == "fused"
    assert "Nsight Systems" in observed["evidence"]


@pytest.mark.parametrize(
    ("knobs", "kind", "message"),
    [
        ({"fail": "[TRT] [E] CUDA out of memory. Tried 2 GiB"}, ResourceError, "out of memory"),
        ({"missing": True}, MachineError, "a library that TensorRT-LLM needs"),
        ({"abort": "Assertion failed: something new"}, ToolFailed, "signal SIGABRT and no answer"),
        ({"kill": True}, ResourceError, "want of memory"),
        ({"finish": "timeout"}, ToolFailed, "it ended by `timeout`"),
    ],
)
def test_failures_are_told_by_their_kind(
    machine: Standin,
    engine: Path,
    knobs: dict[str, object],
    kind: type[PipelineError],
    message: str,
) -> None:
    set_llm(machine, **knobs)
    with pytest.raises(kind, match=message) as caught:
        open_generator(engine).generate(requests())
    text = next((str(value) for value in knobs.values() if isinstance(value, str)), "")
    if "finish" not in knobs:
        assert any(text in fact for fact in caught.value.facts)
    assert not any("Traceback" in fact or "  File " in fact for fact in caught.value.facts)


def test_a_worker_that_hangs_is_ended_with_all_it_started(machine: Standin, engine: Path) -> None:
    set_llm(machine, hang="generate", grandchild=True)
    with pytest.raises(ToolFailed, match=r"no answer within 1\.5 s") as caught:
        open_generator(engine, timeout_s=1.5).generate(requests())
    assert "smoke.timeout_s" in str(caught.value.hint)
    assert not _sleepers(machine)


def _sleepers(machine: Standin) -> list[str]:
    """Processes that the stand-in has started and that still run."""
    marker = f"STANDIN_MACHINE={machine.folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if marker in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(entry.name)
            except OSError:
                continue
    return found


def test_a_shutdown_that_hangs_takes_no_results_away(
    machine: Standin, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_llm(machine, hang="shutdown")
    monkeypatch.setattr(module, "END_TIMEOUT_S", 0.2)
    found = open_generator(engine, timeout_s=600).generate(requests())
    assert [one.token_ids for one in found] == expected(engine, requests())


def test_an_engine_must_fit_version_and_machine(
    machine: Standin, tmp_path: Path, engine: Path
) -> None:
    machine.set_version("tensorrt-llm", "1.2.2")
    with pytest.raises(MachineError, match=r"built by TensorRT-LLM 1\.2\.1, but 1\.2\.2 is"):
        open_generator(engine)
    machine.set_version("tensorrt-llm", None)
    with pytest.raises(MachineError, match="not installed"):
        open_generator(engine)
    machine.set_version("tensorrt-llm", "1.2.1")
    machine.set_gpus([])
    with pytest.raises(MachineError, match=r"1 ranks, one GPU each; visible are 0"):
        open_generator(engine)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VerificationError, match="is not of a TensorRT-LLM engine"):
        open_generator(tmp_path / "empty")
    document = json.loads((engine / "config.json").read_bytes())
    del document["build_config"]["max_num_tokens"]
    (engine / "config.json").write_text(json.dumps(document))
    with pytest.raises(VerificationError, match="max_num_tokens"):
        open_generator(engine)


def test_opening_starts_nothing(machine: Standin, engine: Path) -> None:
    assert isinstance(open_generator(engine), TrtllmGenerator)
    assert not llm_calls(machine)
