"""What a finished build is held against: each way to be otherwise has its own message."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.attention_proof import check_proof, not_observed, proof, read_proof
from pipeline.engines.trtllm.after_build import attention_layers, built_answer, check_entries
from pipeline.engines.trtllm.request import build_request
from pipeline.errors import VerificationError
from tests.engines.trtllm.building import build, checkpoint, settings
from tests.engines.trtllm.built import WHOLE, Built, built_once, copy_of_built, log_of
from tests.standins import Standin

FALLBACK_LINES = tuple(
    f"[TensorRT-LLM][WARNING]{text}"
    for text in (
        " Fall back to unfused MHA because of unsupported data type.",
        " Fall back to unfused MHA because of relative position embedding.",
        " Fall back to unfused MHA because of cross attention + contiguous kv cache.",
        "[1] Fall back to unfused MHA for dataType = fp16, headSize = 112, tpSize = 0 in sm_90.",
        " FMHA Kernel doesn't exist for mFixedParams:",
        " TRTLLM-GEN does not support ALiBi.",
        " TRTLLM-GEN does not support the requested kernels.",
    )
)


@pytest.fixture
def built(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Built:
    return copy_of_built(tmp_path_factory, tmp_path)


def test_a_sound_engine_passes(built: Built) -> None:
    checked = built.check()
    assert checked.rank_bytes.keys() == {"rank0.engine", "rank1.engine"}
    assert checked.not_written.keys() == {
        *("log_level", "workers", "logits_dtype", "lora_ckpt_source", "lora_target_modules"),
        "max_lora_rank",
    }
    assert all(checked.not_written.values())


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (lambda folder: (folder / "rank1.engine").unlink(), "`rank1.engine` is missing"),
        (lambda folder: (folder / "rank0.engine").write_bytes(b""), "`rank0.engine` is empty"),
        (lambda folder: (folder / "rank2.engine").write_bytes(b"x"), "`rank2.engine` is not a"),
        (lambda folder: (folder / "rank1.engine").rename(folder / "rank01.engine"), "is missing"),
    ],
    ids=["missing", "empty", "extra", "renamed"],
)
def test_rank_files_are_counted(built: Built, spoil: Callable[[Path], Any], fact: str) -> None:
    spoil(built.folder)
    with pytest.raises(VerificationError, match="2 ranks") as caught:
        built.check()
    assert any(fact in told for told in caught.value.facts)


def test_managed_weights_are_counted_too(built: Built) -> None:
    built.request = build_request(settings(fast_build=True), built.source.config)
    with pytest.raises(VerificationError) as caught:
        built.check()
    assert "`rank1_managed_weights.safetensors` is missing" in caught.value.facts


@pytest.fixture
def source(tmp_path_factory: pytest.TempPathFactory) -> TrtllmCheckpoint:
    return built_once(tmp_path_factory)[0]


@pytest.mark.parametrize("line", FALLBACK_LINES)
def test_every_fallback_message_makes_the_engine_unfused(
    built: Built, tmp_path: Path, line: str
) -> None:
    log = log_of(tmp_path / "log", line, WHOLE)
    free = settings(require=False)
    answer = built_answer(free, built.source, built.check(log), log)
    assert answer["status"] == "unfused"
    assert answer["fallbacks"] == [line]
    assert answer["levels"]["build log"].startswith("fallback messages")
    document = proof(free.attention, answer, not_observed("not here"))
    check_proof(document, free.attention)
    with pytest.raises(VerificationError, match="require_fused"):
        check_proof(document, settings().attention)
    with pytest.raises(VerificationError, match="computes context attention unfused") as caught:
        log_of(tmp_path / "stopped", line, stop=True)
    assert any(line in fact for fact in caught.value.facts)
    assert any(fact.startswith("source: TensorRT-LLM") for fact in caught.value.facts)


@pytest.mark.parametrize(
    "line",
    [
        "[TensorRT-LLM][WARNING] TRTLLM-GEN does not support tree-based speculative decoding",
        "[TensorRT-LLM][INFO] Context FMHA is enabled",
        "[x] [TRT-LLM] [W] padding removal and fMHA are both enabled, max_input_len is not",
    ],
)
def test_other_lines_are_no_fallback(tmp_path: Path, line: str) -> None:
    assert log_of(tmp_path / "log", line, stop=True).fallbacks == []


def test_without_the_last_line_of_the_log_nothing_is_known(built: Built, tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", "something else")
    answer = built_answer(settings(), built.source, built.check(log), log)
    assert answer["status"] == "unknown"
    assert answer["levels"]["build log"] == "not whole"


@pytest.mark.parametrize(
    ("plugins", "what"),
    [({"context_fmha": False}, "context FMHA off"), ({"gpt_attention_plugin": None}, "without")],
)
def test_attention_that_is_off_is_unfused(
    built: Built, tmp_path: Path, plugins: dict[str, Any], what: str
) -> None:
    log = log_of(tmp_path / "log", WHOLE)
    checked = built.check(log)
    document = json.loads(json.dumps(checked.document))
    document["build_config"]["plugin_config"].update(plugins)
    free = settings(require=False)
    answer = built_answer(free, built.source, replace(checked, document=document), log)
    assert answer["status"] == "unfused"
    assert what in answer["evidence"]
    assert answer["levels"]["engine config"] == "it is off"


def test_attention_layers_are_counted_over_pp_ranks(tmp_path: Path) -> None:
    for name, sizes in {"one": (1, 1), "tp": (2, 1), "pp": (1, 2), "both": (2, 2)}.items():
        assert attention_layers(checkpoint(tmp_path / name, *sizes)) == 3


def test_in_a_whole_build_a_fallback_stops_it_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: TrtllmCheckpoint
) -> None:
    standin = Standin(tmp_path / "machine")
    standin.use(monkeypatch)
    text = FALLBACK_LINES[3].partition("] ")[2]
    standin.control(fallback=text, hang={"step": "engine", "rank": 0}, grandchild=True)
    with pytest.raises(VerificationError, match="unfused"):
        build(source, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    standin.control(fallback=text)
    facts = build(source, tmp_path / "free", settings(require=False))
    assert facts["attention"] == "unfused"
    assert read_proof(tmp_path / "free")["built"]["fallbacks"] == [
        f"[TensorRT-LLM][WARNING] {text}"
    ]


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("engine.json", "`engine.json` is a name that trtllm-pack writes itself"),
        ("rank0.log", "`rank0.log` is a name that trtllm-pack writes itself"),
        ("lora/pipe", "`lora/pipe` is neither a file nor a folder"),
        ("lora/link", "`lora/link` is neither a file nor a folder"),
    ],
)
def test_what_cannot_be_published_is_no_part_of_an_engine(
    tmp_path: Path, name: str, fact: str
) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "0.nemo").touch()
    check_entries(tmp_path)
    path = tmp_path / name
    if path.name == "pipe":
        os.mkfifo(path)
    elif path.name == "link":
        path.symlink_to("0.nemo")
    else:
        path.touch()
    with pytest.raises(VerificationError) as caught:
        check_entries(tmp_path)
    assert caught.value.facts == (fact,)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"force": {"use_paged_context_fmha": False}}, "`engine.use_paged_context_fmha`"),
        ({"leave_out": [1]}, "one whole engine file for each of its 2 ranks"),
        ({"version": "1.2.0"}, "built by TensorRT-LLM 1.2.0"),
        ({"config": {"hidden_size": 41}}, "the engine's model is not the checkpoint's"),
        ({"only_errors": True}, "the engine's attention is unknown"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_in_a_whole_build_each_fault_has_its_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: TrtllmCheckpoint,
    knobs: dict[str, Any],
    message: str,
) -> None:
    standin = Standin(tmp_path / "machine")
    standin.use(monkeypatch)
    standin.control(**knobs)
    with pytest.raises(VerificationError) as caught:
        build(source, tmp_path / "out")
        check_proof(read_proof(tmp_path / "out"), settings().attention)
    assert message in caught.value.message
