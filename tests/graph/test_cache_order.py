"""Caches by tokens: the same numbers as by heads, for every family, with nothing transposed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.checkpoint.trtllm import TrtllmCheckpoint, open_trtllm_checkpoint
from pipeline.engines.onnxruntime.cpu_session import Limits, open_session
from pipeline.graph.decoder import GraphOptions, decoder_model
from pipeline.graph.facts import GraphFacts
from pipeline.progress import Silent
from pipeline.weights.stream import write_checkpoint
from tests.families.fixtures import FIXTURES
from tests.weights.converting import plan

SLOTS = 64
PROMPTS = [[1, 2, 3, 4, 5], [6, 7], [8]]
STEPS = [[3, 4, 5], [9, 1, 2]]

# Plain; norms of heads before and after rotary positions; partial, interleaved; ALiBi; windows;
# soft-capping; experts; layers without attention; latent attention, whose caches stay by heads.
NAMES = (
    *("llama", "qwen3", "cohere-qk-norm", "gptj", "bloom", "mistral-window", "gemma2", "mixtral"),
    *("deci", "deepseek-v2"),
)


@pytest.fixture
def checkpoint(name: str, tmp_path: Path) -> TrtllmCheckpoint:
    source = FIXTURES / name
    write_checkpoint(plan(source, dtype="float32"), source, tmp_path, Silent())
    return open_trtllm_checkpoint(tmp_path)


def executed(
    checkpoint: TrtllmCheckpoint, **options: Any
) -> tuple[NDArray[np.float32], GraphFacts]:
    max_seq_len = min(SLOTS, checkpoint.config["max_position_embeddings"])
    graph = GraphOptions(max_seq_len, "float32", fixed_cache=False, **options)
    model, facts = decoder_model(checkpoint, graph)
    limits = Limits(len(PROMPTS), max_seq_len)
    session = open_session(model.SerializeToString(), checkpoint.path, limits)
    rows = [session.start(PROMPTS).copy()]
    rows += [session.step(step).copy() for step in STEPS]
    return np.stack(rows), facts


def ranks(facts: GraphFacts) -> Mapping[str, int]:
    return {port.name: len(port.dims) for port in facts.inputs if port.name.startswith("past_")}


@pytest.mark.parametrize("name", NAMES)
def test_the_order_changes_no_number(name: str, checkpoint: TrtllmCheckpoint) -> None:
    expected, by_heads = executed(checkpoint)
    for form in ("mask", "lengths"):
        found, facts = executed(checkpoint, form=form, cache_order="tokens")
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max(), form
        assert facts.attention_sites == by_heads.attention_sites
        assert set(ranks(facts).values()) == {4 if name == "deepseek-v2" else 3}
    assert set(ranks(by_heads).values()) == {4}


@pytest.mark.parametrize("name", ["llama"])
def test_only_weights_are_transposed(name: str, checkpoint: TrtllmCheckpoint) -> None:
    """Those are constants, which ONNX Runtime turns once."""
    _, facts = executed(checkpoint, form="lengths", cache_order="tokens")
    assert facts.op_counts["Transpose"] == facts.op_counts["MatMul"]
    assert "Reshape" not in facts.op_counts
