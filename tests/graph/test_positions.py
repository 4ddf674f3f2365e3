"""What tokens see, as the graph works it out, against masks written out one pair at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from pipeline.graph.alibi import alibi_slopes
from pipeline.graph.builder import GraphBuilder
from pipeline.graph.description import Alibi, Attention, BlockSparse
from pipeline.graph.positions import Positions

HEADS, STARTS, STEPS, SLOTS = 6, np.array([0, 3, 9]), 5, 17


def described(**more: Any) -> Attention:
    return Attention(HEADS, 2, 8, 1.0, **more)


def computed(attention: Attention, form: Literal["mask", "lengths"]) -> NDArray[Any]:
    """The mask of tokens `STARTS[b], STARTS[b] + 1, ...`, executed by ONNX Runtime."""
    g = GraphBuilder("float32")
    g.input("input_ids", "int64", ["batch", "seq"])
    g.input("past_key.0", "float32", ["batch", 2, "slots", 8])
    at = Positions(g, form, SLOTS, "slots", "past_key.0")
    visible = at.visible(attention)
    assert visible.mask is not None
    shown = g.node("Identity", [visible.mask], "shown")
    g.output(shown, "float32" if attention.alibi else "bool", ["batch", "heads", "seq", "slots"])
    session = ort.InferenceSession(
        g.model("mask").SerializeToString(), providers=["CPUExecutionProvider"]
    )
    causal = np.arange(SLOTS) <= queries()[:, None, :, None]
    feeds = {
        "input_ids": np.zeros((3, STEPS), np.int64),
        "past_key.0": np.zeros((3, 2, SLOTS, 8), np.float32),
        "write_indices": STARTS,
        "mask": causal,
    }
    names = {port.name for port in session.get_inputs()}
    return np.asarray(session.run(None, {k: v for k, v in feeds.items() if k in names})[0])


def queries() -> NDArray[np.int64]:
    return STARTS[:, None] + np.arange(STEPS)


def pairs() -> Iterator[tuple[int, int, int, int, int]]:
    """(row, head, step, query slot, key slot) of every pair."""
    for row in range(3):
        for head in range(HEADS):
            for step in range(STEPS):
                for key in range(SLOTS):
                    yield row, head, step, int(STARTS[row]) + step, key


@pytest.mark.parametrize("form", ["mask", "lengths"])
@pytest.mark.parametrize("window", [1, 2, 7, 16])
def test_a_window_holds_the_token_itself(form: Literal["mask", "lengths"], window: int) -> None:
    found = computed(described(window=window), form)
    for row, _, step, query, key in pairs():
        assert found[row, 0, step, key] == (query - window < key <= query)


@pytest.mark.parametrize("form", ["mask", "lengths"])
@pytest.mark.parametrize("window", [None, 3])
def test_a_bias_by_distance(form: Literal["mask", "lengths"], window: int | None) -> None:
    alibi = Alibi(factor=0.5)
    found = computed(described(alibi=alibi, window=window), form)
    slopes = alibi_slopes(alibi, HEADS)
    for row, head, step, query, key in pairs():
        seen = key <= query and (window is None or key > query - window)
        wanted = -slopes[head] * (query - key) if seen else np.finfo(np.float32).min
        assert math.isclose(found[row, head, step, key], wanted, rel_tol=1e-6)


@pytest.mark.parametrize("homogeneous", [True, False])
@pytest.mark.parametrize("form", ["mask", "lengths"])
def test_block_sparse_attention(form: Literal["mask", "lengths"], homogeneous: bool) -> None:
    """Near blocks, and every third one: another third for other heads (Phi-3-small)."""
    found = computed(described(block_sparse=BlockSparse(2, 2, 3, homogeneous)), form)
    told = 0
    for row, head, step, query, key in pairs():
        block, shift = key // 2, 0 if homogeneous else head
        seen = query // 2 - block < 2 or (block + shift + 1) % 3 == 0
        at = 0 if homogeneous and found.shape[1] == 1 else head
        assert found[row, at, step, key] == (seen and key <= query)
        told += key <= query and not seen
    assert told > 0


@pytest.mark.parametrize("sparse", [BlockSparse(8, 2, 3, True), BlockSparse(1, 16, 17, True)])
def test_one_key_that_the_last_token_does_not_see(sparse: BlockSparse) -> None:
    """Sixteen near slots of seventeen: blocks matter, if only to the last token of all."""
    g = GraphBuilder("float32")
    g.input("input_ids", "int64", ["batch", "seq"])
    at = Positions(g, "lengths", SLOTS, SLOTS, None)
    assert at.visible(described(block_sparse=sparse)).mask is not None


def test_what_never_matters_needs_no_mask() -> None:
    """Up to the window's own length, lengths say it all: flash kernels take those."""
    g = GraphBuilder("float32")
    g.input("input_ids", "int64", ["batch", "seq"])
    at = Positions(g, "lengths", SLOTS, SLOTS, None)
    for attention in (described(window=SLOTS), described(block_sparse=BlockSparse(9, 2, 3, True))):
        visible = at.visible(attention)
        assert (visible.mask, visible.lengths) == (None, "nonpad_kv_seqlen")
