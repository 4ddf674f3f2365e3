"""The backend `onnxruntime`: built folders, loaded sessions, and what they compute."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifact import list_files
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines import find_engine
from pipeline.engines.generation import Sampling, generate
from pipeline.engines.onnxruntime import ENGINE, cpu_session
from pipeline.engines.onnxruntime.cpu_session import CpuSession, Limits, open_session
from pipeline.engines.onnxruntime.proof import cpu_proof
from pipeline.errors import ToolFailed, VerificationError
from pipeline.graph.decoder import GraphOptions, decoder_model
from pipeline.hardware import Hardware, detect
from pipeline.progress import Silent
from pipeline.recipe.schema import EngineSettings
from tests.tiny_decoder import (
    Shape,
    random_weights,
    reference_logits,
    relative_error,
    write_checkpoint,
)

SHAPE = replace(Shape(), dtype="bfloat16")
SETTINGS = EngineSettings(
    backend="onnxruntime", max_batch_size=3, max_input_len=24, max_seq_len=48, targets=("sm89",)
)
HARDWARE = Hardware(num_cpus=2, available_memory_bytes=1 << 30, gpus=())
PROMPTS = [[5, 111, 17], [64, 3, 90, 41, 41, 7, 2, 2, 19], [112]]


@pytest.fixture(scope="module")
def checkpoint_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return write_checkpoint(folder, SHAPE, random_weights(SHAPE), tp_size=2)


@pytest.fixture(scope="module")
def engine_dir(checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    facts = ENGINE.build(open_trtllm_checkpoint(checkpoint_dir), SETTINGS, folder, Silent())
    assert facts["attention_sites"] == 3
    assert json.dumps(facts)
    return folder


@pytest.fixture
def session(engine_dir: Path, checkpoint_dir: Path) -> CpuSession:
    return ENGINE.load(engine_dir, checkpoint_dir)


def greedy(prompt: list[int], num_tokens: int) -> tuple[int, ...]:
    """The likeliest continuation by the float64 reference."""
    weights, token_ids = random_weights(SHAPE), list(prompt)
    for _ in range(num_tokens):
        token_ids.append(int(reference_logits(SHAPE, weights, token_ids)[-1].argmax()))
    return tuple(token_ids[len(prompt) :])


def test_engine_folder(engine_dir: Path, checkpoint_dir: Path) -> None:
    assert list_files(engine_dir) == [
        "attention.json",
        "decoder.onnx",
        "engine.json",
        "rank0.safetensors",
        "rank1.safetensors",
    ]
    weights = (engine_dir / "rank1.safetensors").stat()
    assert weights.st_ino == (checkpoint_dir / "rank1.safetensors").stat().st_ino  # no second copy
    config = json.loads((engine_dir / "engine.json").read_bytes())
    assert (config["backend"], config["dtype"]) == ("onnxruntime", "bfloat16")
    assert config["max_seq_len"] == 48
    assert config["checkpoint"]["num_hidden_layers"] == 3


def test_building_again_gives_equal_bytes(
    engine_dir: Path, checkpoint_dir: Path, tmp_path: Path
) -> None:
    ENGINE.build(open_trtllm_checkpoint(checkpoint_dir), SETTINGS, tmp_path, Silent())
    for name in list_files(engine_dir):
        assert (tmp_path / name).read_bytes() == (engine_dir / name).read_bytes(), name


def test_the_proof_separates_requested_built_and_observed(engine_dir: Path) -> None:
    proof = json.loads((engine_dir / "attention.json").read_bytes())
    assert proof["requested"] == {"context_fmha": True, "require_fused": True}
    built, observed = proof["built"], proof["observed"]
    assert (built["status"], built["level"]) == ("fused", "operator")
    assert built["attention_sites"] == built["attention_layers"] == 3
    assert (observed["status"], observed["device"]) == ("fused", "cpu")
    assert (observed["attention_kernels"], observed["softmax_kernels"]) == (3, 0)


def test_decomposed_attention_fails_where_fused_is_required(
    checkpoint_dir: Path, tmp_path: Path
) -> None:
    """A site that the runtime does not execute as one operator: here one that is not there."""
    ENGINE.build(open_trtllm_checkpoint(checkpoint_dir), SETTINGS, tmp_path, Silent())
    options = GraphOptions(SETTINGS.max_seq_len, "float32", fixed_cache=False)
    facts = replace(
        decoder_model(open_trtllm_checkpoint(checkpoint_dir), options)[1], attention_sites=4
    )
    with pytest.raises(ToolFailed, match="executed 3 `Attention` operators for 4 layers"):
        cpu_proof(tmp_path / "decoder.onnx", tmp_path, SETTINGS, facts)
    lenient = SETTINGS.model_copy(
        update={"attention": SETTINGS.attention.model_copy(update={"require_fused": False})}
    )
    assert (
        cpu_proof(tmp_path / "decoder.onnx", tmp_path, lenient, facts)["built"]["status"]
        == "unfused"
    )


def test_a_failure_of_a_run_is_told(session: CpuSession) -> None:
    """As a token that the embedding does not have."""
    with pytest.raises(ToolFailed, match=r"ONNX Runtime failed: .*out of data bounds"):
        session.start([[SHAPE.vocab_size]])


def test_prompts_of_unequal_length_match_the_reference(session: CpuSession) -> None:
    weights = random_weights(SHAPE)
    logits = session.start(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        assert relative_error(logits[row], reference_logits(SHAPE, weights, prompt)[-1]) < 1e-5
    logits = session.step([1, 2, 3])
    for row, prompt in enumerate(PROMPTS):
        expected = reference_logits(SHAPE, weights, [*prompt, row + 1])[-1]
        assert relative_error(logits[row], expected) < 1e-5


def test_a_batch_yields_what_each_prompt_yields(session: CpuSession) -> None:
    expected = [greedy(prompt, 12) for prompt in PROMPTS]
    together = generate(session, PROMPTS, Sampling(max_new_tokens=12))
    assert [each.token_ids for each in together] == expected
    alone = [generate(session, [prompt], Sampling(max_new_tokens=12))[0] for prompt in PROMPTS]
    assert alone == together


def test_sampling_does_not_depend_on_neighbours(session: CpuSession) -> None:
    how = Sampling(max_new_tokens=12, temperature=1.5, top_p=0.9, seed=4)
    together = generate(session, [*PROMPTS, PROMPTS[0]], how)  # four prompts: two batches
    assert together[3] == together[0]
    assert generate(session, [PROMPTS[1]], how)[0] == together[1]


def test_a_full_sequence_does_not_disturb_the_others(session: CpuSession) -> None:
    long_prompt = list(range(46))
    together = generate(session, [long_prompt, PROMPTS[0]], Sampling(max_new_tokens=20))
    assert [len(each.token_ids) for each in together] == [2, 20]
    assert together[1].token_ids == greedy(PROMPTS[0], 20)


def test_long_prompts_are_read_in_pieces(
    session: CpuSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = session.start(PROMPTS)
    monkeypatch.setattr(cpu_session, "PREFILL_TOKENS", 12)  # four tokens of each prompt at a time
    pieces = session.start(PROMPTS)
    assert relative_error(pieces, whole) < 1e-5
    assert generate(session, PROMPTS, Sampling(max_new_tokens=4)) == [
        generate(session, [prompt], Sampling(max_new_tokens=4))[0] for prompt in PROMPTS
    ]


def test_the_cache_grows_and_keeps_what_is_in_it(
    session: CpuSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_session, "SLOTS_STEP", 4)
    (found,) = generate(session, [PROMPTS[0]], Sampling(max_new_tokens=30))
    assert found.token_ids == greedy(PROMPTS[0], 30)
    assert 32 <= session._caches[0].shape[2] <= 48


def test_the_cache_is_updated_in_place(session: CpuSession) -> None:
    session.start([PROMPTS[0]])
    places = [cache.ctypes.data for cache in session._caches]
    before = [cache.copy() for cache in session._caches]
    session.step([7])
    written = {value.data_ptr() for value in session._binding.get_outputs()}
    assert set(places) < written
    for cache, old in zip(session._caches, before, strict=True):
        changed = np.flatnonzero((cache != old).any(axis=(0, 1, 3)))
        assert changed.tolist() == [3]  # the slot after three prompt tokens, and no other


def test_executed_by_names_the_runtime(session: CpuSession) -> None:
    import onnxruntime

    assert session.executed_by["backend"] == "onnxruntime"
    assert session.executed_by["version"] == onnxruntime.__version__
    assert session.executed_by["device"] == "cpu"


def test_weights_may_lie_in_another_folder(checkpoint_dir: Path) -> None:
    options = GraphOptions(48, "float32", fixed_cache=False)
    model, _ = decoder_model(open_trtllm_checkpoint(checkpoint_dir), options)
    session = open_session(model.SerializeToString(), checkpoint_dir, Limits(2, 48))
    (found,) = generate(session, [PROMPTS[2]], Sampling(max_new_tokens=6))
    assert found.token_ids == greedy(PROMPTS[2], 6)


def test_the_lengths_form_computes_the_same(checkpoint_dir: Path) -> None:
    options = GraphOptions(48, "float32", form="lengths", fixed_cache=False)
    model, _ = decoder_model(open_trtllm_checkpoint(checkpoint_dir), options)
    session = open_session(model.SerializeToString(), checkpoint_dir, Limits(3, 48))
    found = generate(session, PROMPTS, Sampling(max_new_tokens=12))
    assert [each.token_ids for each in found] == [greedy(prompt, 12) for prompt in PROMPTS]


@pytest.mark.parametrize("fault", ["missing", "truncated", "not a graph"])
def test_a_damaged_engine_is_an_error(engine_dir: Path, tmp_path: Path, fault: str) -> None:
    for name in list_files(engine_dir):
        (tmp_path / name).write_bytes((engine_dir / name).read_bytes())
    rank = tmp_path / "rank1.safetensors"
    if fault == "missing":
        rank.unlink()
    elif fault == "truncated":
        rank.write_bytes(rank.read_bytes()[:-1000])
    else:
        (tmp_path / "decoder.onnx").write_bytes(b"not a graph")
    with pytest.raises(VerificationError, match=r"rank1\.safetensors|refuses the decoder graph"):
        ENGINE.load(tmp_path, tmp_path)


@pytest.mark.parametrize("text", [None, "{", "[]", '{"backend": "tensorrt"}'])
def test_another_folder_is_no_engine(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "engine.json").write_text(text)
    with pytest.raises(VerificationError):
        ENGINE.load(tmp_path, tmp_path)


def test_the_plan_s_questions(checkpoint_dir: Path) -> None:
    config = open_trtllm_checkpoint(checkpoint_dir).config
    assert find_engine("onnxruntime") is ENGINE
    assert ENGINE.why_unavailable(detect()) is None
    assert ENGINE.why_not_runnable(SETTINGS, HARDWARE) is None
    assert ENGINE.problems(config, SETTINGS, HARDWARE) == []
    assert set(ENGINE.tool_versions()) == {"onnx", "onnxruntime"}
    (support,) = ENGINE.attention_support(config, SETTINGS)
    assert (support["target"], support["fused"]) == ("cpu", True)
    estimate = ENGINE.estimate(config, SETTINGS, weight_bytes=1000)
    assert estimate["memory_bytes"] > 4000
    assert estimate["disk_bytes"] > 1000


@pytest.mark.parametrize(
    ("overrides", "settings", "message"),
    [
        ({"qk_layernorm": True}, {}, "the decoder graph cannot express this checkpoint"),
        ({}, {"max_seq_len": 97}, "`engine.max_seq_len` is 97, but the model has 96 positions"),
    ],
)
def test_problems_are_found_before_any_work(
    overrides: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    config = SHAPE.config() | overrides
    wanted = SETTINGS.model_copy(update=settings)
    (problem,) = ENGINE.problems(config, wanted, HARDWARE)
    assert (problem.stage, problem.message) == ("build", message)
