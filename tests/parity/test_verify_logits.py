"""`verify.logits` with the real transformers: what it passes, what it finds, where it says no."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from pipeline.artifact import Json
from pipeline.checkpoint.safetensors_file import TensorInfo, read_header
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.errors import PipelineError, ToolFailed, VerificationError
from pipeline.parity.logits import LogitsCheck, compare_logits
from pipeline.parity.reference import SourceModel, reference_logits
from pipeline.parity.sequences import random_sequences
from pipeline.parity.thresholds import EXACT, ROUNDED, Thresholds
from pipeline.progress import Silent
from tests.command import RECIPES, run_command
from tests.families.fixtures import FIXTURES
from tests.weights import converting

pytestmark = pytest.mark.torch


def make_check(
    source: Path,
    folder: Path,
    layout: tuple[int, int] = (1, 1),
    *,
    dtype: str = "bfloat16",
    num_layers: int | None = None,
    num_tokens: int = 24,
    allowed: Thresholds = EXACT,
) -> LogitsCheck:
    """Convert a source checkpoint, and what is to be compared of both."""
    made = converting.plan(source, *layout, dtype)
    checkpoint = open_trtllm_checkpoint(converting.convert(made, source, folder / "converted"))
    total = made.config["num_hidden_layers"]
    sequences = random_sequences(made.config["vocab_size"], 3, num_tokens, seed=0)
    model = SourceModel(source, total, tuple(made.coverage.dropped))
    return LogitsCheck(model, checkpoint, sequences, num_layers or total, allowed)


def copied(name: str, folder: Path, **config: Json) -> Path:
    """A fixture to change; `config` are keys of its config.json."""
    path = shutil.copytree(FIXTURES / name, folder / "source")
    document = json.loads((path / "config.json").read_bytes())
    (path / "config.json").write_text(json.dumps(document | config))
    return path


@pytest.mark.parametrize("num_layers", [3, 2, 1])
def test_a_llama_in_four_ranks(num_layers: int, tmp_path: Path) -> None:
    check = make_check(FIXTURES / "llama", tmp_path, (2, 2), num_layers=num_layers)
    record = compare_logits(check, Silent())
    assert record["reference"]["class"] == "LlamaForCausalLM"
    assert record["layers"] == num_layers
    for phase in ("prefill", "decoding"):
        assert record[phase]["max_relative_error"] < 2e-5
        assert record[phase]["min_cosine"] > 0.99999999


FAMILIES = ("falcon-rw", "gemma2", "gpt2-bare", "gptneox", "llama-tied", "mixtral", "deepseek-v2")


@pytest.mark.parametrize("name", FAMILIES)
def test_other_families(name: str, tmp_path: Path) -> None:
    """What is dropped or ignored, tied heads, experts, ALiBi, windows, latent attention."""
    check = make_check(FIXTURES / name, tmp_path, dtype="float32")
    compare_logits(check, Silent())
    compare_logits(replace(check, num_layers=1), Silent())


@pytest.mark.parametrize("num_tokens", [17, 30])
def test_a_long_rope_beyond_the_trained_length(num_tokens: int, tmp_path: Path) -> None:
    """Of the sequences of one batch some are read with the long factors, some with the short."""
    lengths = {"original_max_position_embeddings": 16, "max_position_embeddings": 512}
    source = copied("phi3-longrope", tmp_path, **lengths)
    document = json.loads((source / "config.json").read_bytes())
    rope = document["rope_parameters"] | {"original_max_position_embeddings": 16}
    (source / "config.json").write_text(json.dumps(document | {"rope_parameters": rope}))
    check = make_check(source, tmp_path, dtype="float32", num_tokens=num_tokens)
    compare_logits(check, Silent())


REPAIRED: dict[str, Callable[[dict[str, Any]], None]] = {
    "dbrx": lambda config: config.pop("rope_parameters"),
    "mpt": lambda config: config["attn_config"].update(alibi_bias_max=16),
    "phimoe": lambda config: (
        config.update(original_max_position_embeddings=16),
        config["rope_parameters"].update(original_max_position_embeddings=16, long_mscale=1.4),
    ),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_transformers_passes_over_is_put_right(name: str, tmp_path: Path) -> None:
    """A base inside `attn_config`, slopes other than for 8, long factors of PhiMoE."""
    source = copied(name, tmp_path)
    document = json.loads((source / "config.json").read_bytes())
    REPAIRED[name](document)
    (source / "config.json").write_text(json.dumps(document))
    compare_logits(make_check(source, tmp_path, dtype="float32"), Silent())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounded_weights_are_beyond_the_narrow_thresholds_alone(dtype: str, tmp_path: Path) -> None:
    source = FIXTURES / "llama-biased"  # float32
    check = make_check(source, tmp_path, dtype=dtype, allowed=ROUNDED[dtype])
    assert compare_logits(check, Silent())["prefill"]["max_relative_error"] > 1e-4


def exchange(check: LogitsCheck) -> None:
    """Gate and up projection of layer 1, in every rank file that has it."""
    for rank, file, local in _layer_1(check):
        scope = f"transformer.layers.{local}.mlp"
        gate, up = rank[f"{scope}.gate.weight"], rank[f"{scope}.fc.weight"]
        one, other = _read(file, gate), _read(file, up)
        _write(file, gate, other)
        _write(file, up, one)


def scale(check: LogitsCheck) -> None:
    """The first norm of layer 1, by a sixteenth."""
    for rank, file, local in _layer_1(check):
        norm = rank[f"transformer.layers.{local}.input_layernorm.weight"]
        values = np.frombuffer(_read(file, norm), ml_dtypes.bfloat16).astype(np.float32)
        _write(file, norm, (values * 1.0625).astype(ml_dtypes.bfloat16).tobytes())


def _layer_1(check: LogitsCheck) -> list[tuple[dict[str, TensorInfo], Path, int]]:
    """Of three layers over two pipeline stages the first has two."""
    files = [check.checkpoint.path / f"rank{number}.safetensors" for number in (0, 1)]
    return [(dict(read_header(file)), file, 1) for file in files]


def _read(file: Path, info: TensorInfo) -> bytes:
    with file.open("rb") as opened:
        opened.seek(info.offset)
        return opened.read(info.num_bytes)


def _write(file: Path, info: TensorInfo, data: bytes) -> None:
    assert len(data) == info.num_bytes
    with file.open("r+b") as opened:
        opened.seek(info.offset)
        opened.write(data)


@pytest.mark.parametrize("doctor", [exchange, scale])
def test_a_doctored_rank_file_is_found(
    doctor: Callable[[LogitsCheck], None], tmp_path: Path
) -> None:
    check = make_check(FIXTURES / "llama", tmp_path, (2, 2))
    doctor(check)
    with pytest.raises(VerificationError) as caught:
        compare_logits(check, Silent())
    assert caught.value.facts[-1] == (
        "the first layer agrees; layer 1 makes the difference (`transformer.layers.1` of "
        "`rank0.safetensors`, `rank1.safetensors`)"
    )


def reference(source: Path, num_layers: int = 3, of_layers: int = 3) -> Any:
    return reference_logits(SourceModel(source, of_layers, ()), [[1, 2, 3]], num_layers)


def test_a_tensor_that_would_be_random_is_an_error(tmp_path: Path) -> None:
    source = copied("llama-biased", tmp_path, num_hidden_layers=3)  # it has two
    with pytest.raises(ToolFailed, match="does not take the source for what it is") as caught:
        reference(source)
    assert any("`model.layers.2.mlp.up_proj.weight` is not in" in f for f in caught.value.facts)


def test_a_tensor_that_transformers_passes_by_is_an_error(tmp_path: Path) -> None:
    source = copied("llama-biased", tmp_path, mlp_bias=False)
    with pytest.raises(ToolFailed) as caught:
        reference(source, 2, 2)
    assert any("mlp.up_proj.bias` is in the source, but" in fact for fact in caught.value.facts)
    assert "set `verify.logits: false`" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"hidden_size": 44}, "transformers cannot run the source: "),
        ({"num_hidden_layers": 4}, "reads 4 layers in `config.json`, conversion 3"),
        ({"model_type": "chatglm"}, "transformers cannot run the source: "),
    ],
)
def test_what_transformers_cannot_run_is_an_error_without_a_traceback(
    config: dict[str, Json], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ToolFailed) as caught:
        reference(copied("llama", tmp_path, **config))
    assert words in caught.value.message
    assert not any("Traceback" in fact for fact in caught.value.facts)


def test_a_child_that_is_killed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.parity.reference.CHILD", "no.such.module")
    with pytest.raises(PipelineError, match="transformers died with"):
        reference(FIXTURES / "llama")


def test_the_command_compares_and_reuses(tmp_path: Path) -> None:
    wanted = ("--set", "verify.logits=true", "--set", "verify.layers=2", "--variant", "cpu")
    line = ("convert", RECIPES / "demo.yaml", *wanted, "--store", tmp_path / "store", "--json")
    first, second = (run_command(*line) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    stage = next(one for one in json.loads(first.stdout)["stages"] if one["stage"] == "verify")
    assert stage["facts"]["logits"]["layers"] == 2
    assert [one["name"] for one in stage["facts"]["logits"]["sequences"]][-1] == "text 0"
    again = next(one for one in json.loads(second.stdout)["stages"] if one["stage"] == "verify")
    assert again["reused"]
    assert again["facts"] == stage["facts"]
