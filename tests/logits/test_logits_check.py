"""The comparison of logits as a whole: the real graph, and a stand-in for transformers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.errors import ToolFailed, VerificationError
from pipeline.parity import logits as seam
from pipeline.parity.logits import LogitsCheck, compare_logits
from pipeline.parity.reference import Reference, SourceModel
from pipeline.parity.sequences import TokenSequence, random_sequences
from pipeline.parity.thresholds import EXACT
from pipeline.progress import Silent
from tests.tiny_decoder import (
    Shape,
    Weights,
    random_weights,
    reference_logits,
    write_checkpoint,
)

SHAPE = Shape(num_layers=5)
WEIGHTS = random_weights(SHAPE)
SEQUENCES = [*random_sequences(SHAPE.vocab_size, 3, 9, seed=1), TokenSequence("text 0", (7,))]
EXECUTED_BY = {"backend": "transformers", "version": "0", "torch": "0", "class": "Model"}

Stand = Callable[[SourceModel, Sequence[Sequence[int]], int], Reference]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """transformers is a decoder in float64; how many layers were asked for, in order."""
    counts: list[int] = []

    def stand_in(_: SourceModel, sequences: Sequence[Sequence[int]], num_layers: int) -> Reference:
        counts.append(num_layers)
        shape = replace(SHAPE, num_layers=num_layers)
        found = [reference_logits(shape, WEIGHTS, list(tokens)) for tokens in sequences]
        return Reference([one.astype(np.float32) for one in found], EXECUTED_BY)

    monkeypatch.setattr(seam, "reference_logits", stand_in)
    return counts


def check(
    folder: Path,
    weights: Weights = WEIGHTS,
    num_layers: int = 5,
    *,
    pp_size: int = 2,
    **config: Any,
) -> LogitsCheck:
    """A comparison of the tiny decoder with these weights, in tp 2 x pp 2 rank files."""
    path = write_checkpoint(folder / "converted", SHAPE, weights, 2, pp_size, **config)
    source = SourceModel(folder, SHAPE.num_layers, ())
    return LogitsCheck(source, open_trtllm_checkpoint(path), SEQUENCES, num_layers, EXACT)


def test_equal_models_agree_and_the_record_says_how_far(tmp_path: Path, asked: list[int]) -> None:
    record = compare_logits(check(tmp_path), Silent())
    assert asked == [5]
    assert (record["layers"], record["of_layers"]) == (5, 5)
    assert record["reference"] == EXECUTED_BY
    assert record["executed_by"]["backend"] == "onnxruntime"
    assert [one["tokens"] for one in record["sequences"]] == [9, 6, 3, 1]
    assert record["prefill"]["positions"] == 19
    assert record["decoding"]["positions"] == 4 + 4 + 2
    for phase in ("prefill", "decoding"):
        assert 0 < record[phase]["max_relative_error"] < 1e-5
        assert record[phase]["min_cosine"] > 0.999999999


def test_the_first_layers_alone(tmp_path: Path, asked: list[int]) -> None:
    """What is wrong beyond them is not seen, and changes nothing."""
    doctored = {**WEIGHTS, "3.norm1": WEIGHTS["3.norm1"] * np.float32(3)}
    record = compare_logits(check(tmp_path, doctored, 3), Silent())
    assert (asked, record["layers"]) == ([3], 3)


@pytest.mark.parametrize("pp_size", [1, 2])
@pytest.mark.parametrize("layer", range(5))
def test_the_layer_that_departs_is_named(
    layer: int, pp_size: int, tmp_path: Path, asked: list[int]
) -> None:
    exchanged = {
        **WEIGHTS,
        f"{layer}.fc": WEIGHTS[f"{layer}.gate"],
        f"{layer}.gate": WEIGHTS[f"{layer}.fc"],
    }
    with pytest.raises(VerificationError) as caught:
        compare_logits(check(tmp_path, exchanged, pp_size=pp_size), Silent())
    *figures, found = caught.value.facts
    assert any(fact.startswith("prefill, worst of 19 positions: cosine 0.") for fact in figures)
    first = "first beyond a threshold at position {} of the 9 of sequence `random 0`"
    assert f"prefill: {first.format(0)}" in figures
    assert f"decoding: {first.format(5)}" in figures
    files = {1: {0: (0, 1)}, 2: {0: (0, 1), 1: (2, 3)}}[pp_size]
    stage, local = (0, layer) if pp_size == 1 or layer < 3 else (1, layer - 3)
    where = ", ".join(f"`rank{number}.safetensors`" for number in files[stage])
    assert f"layer {layer}" in found
    assert f"(`transformer.layers.{local}` of {where})" in found
    begins = ["already the first layer", "the first layer agrees"][layer : layer + 1]
    assert found.startswith((begins or [f"the first {layer} layers agree"])[0])
    assert asked[0] == 5


def test_a_small_fault_is_seen(tmp_path: Path, asked: list[int]) -> None:
    """One of the 40 scales of a norm is off by a hundredth."""
    scales = WEIGHTS["2.norm2"].copy()
    scales[7] *= np.float32(1.01)
    with pytest.raises(VerificationError, match="does not compute") as caught:
        compare_logits(check(tmp_path, {**WEIGHTS, "2.norm2": scales}), Silent())
    assert "layer 2 makes the difference" in caught.value.facts[-1]


def test_a_wrong_key_of_the_config_is_seen(tmp_path: Path, asked: list[int]) -> None:
    with pytest.raises(VerificationError) as caught:
        compare_logits(check(tmp_path, rotary_base=9000.0), Silent())
    assert "a key of config.json about all layers" in caught.value.facts[-1]


def test_another_vocabulary_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wider(_: SourceModel, sequences: Sequence[Sequence[int]], num_layers: int) -> Reference:
        return Reference([np.zeros((len(one), 114), np.float32) for one in sequences], EXECUTED_BY)

    monkeypatch.setattr(seam, "reference_logits", wider)
    with pytest.raises(VerificationError, match="has 113 logits a token, the source 114"):
        compare_logits(check(tmp_path), Silent())


def test_where_the_search_fails_the_difference_is_told_all_the_same(
    tmp_path: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = seam.reference_logits

    def fails(source: SourceModel, sequences: Sequence[Sequence[int]], count: int) -> Reference:
        if count < 5:
            raise ToolFailed("no such model")
        return inner(source, sequences, count)

    monkeypatch.setattr(seam, "reference_logits", fails)
    doctored = {**WEIGHTS, "norm": WEIGHTS["norm"] * np.float32(2)}
    with pytest.raises(VerificationError) as caught:
        compare_logits(check(tmp_path, doctored), Silent())
    assert caught.value.facts[-1] == (
        "which layer makes the difference could not be found out: no such model"
    )
