"""The inverse direction: pieces follow from shapes."""

from __future__ import annotations

import pytest

from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.weights.inventory import LOADER_WORDS, loader_sources
from pipeline.weights.placement import Misplaced, Piece, place_target, uncovered


def info(*shape: int, name: str = "w") -> TensorInfo:
    return TensorInfo(name, "float32", shape, "x", 0, 0)


W = info(12, 10)


@pytest.mark.parametrize(
    ("target", "tp_rank", "tp_size", "pieces"),
    [
        (info(12, 10), 1, 2, [Piece(W, 0, 0, 0, 12)]),
        (info(4, 10), 1, 3, [Piece(W, 0, 0, 4, 4)]),
        (info(12, 5), 1, 2, [Piece(W, 1, 0, 5, 5)]),
        (info(3, 10), 3, 5, [Piece(W, 0, 0, 9, 3)]),
        (info(3, 10), 4, 5, [Piece(None, 0, 0, 0, 3)]),
        (info(2, 10), 3, 7, [Piece(W, 0, 0, 6, 2)]),
        (info(12, 4), 2, 3, [Piece(W, 1, 0, 8, 2), Piece(None, 1, 2, 0, 2)]),
    ],
)
def test_a_share_of_one_source(
    target: TensorInfo, tp_rank: int, tp_size: int, pieces: list[Piece]
) -> None:
    assert place_target(target, [W], tp_rank, tp_size, 1) == pieces


@pytest.mark.parametrize("target", [info(6, 5), info(5, 10), info(12), info(13, 10)])
def test_what_is_no_share(target: TensorInfo) -> None:
    with pytest.raises(Misplaced):
        place_target(target, [W], 0, 2, 1)


@pytest.mark.parametrize(("tp_rank", "head"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)])
def test_heads_that_ranks_repeat(tp_rank: int, head: int) -> None:
    q, k, v = info(24, 10, name="q"), info(8, 10, name="k"), info(8, 10, name="v")
    assert place_target(info(12, 10), [q, k, v], tp_rank, 6, 4) == [
        Piece(q, 0, 0, 4 * tp_rank, 4),
        Piece(k, 0, 4, 4 * head, 4),
        Piece(v, 0, 8, 4 * head, 4),
    ]


def test_joined_sources_must_fill_the_target() -> None:
    with pytest.raises(Misplaced, match="it has 13 rows, its sources give 12"):
        place_target(info(13, 10), [info(8, 10), info(4, 10)], 0, 1, 4)
    with pytest.raises(Misplaced, match="not joined from rows"):
        place_target(info(12, 10), [info(8, 9), info(4, 10)], 0, 1, 4)


def test_gaps() -> None:
    pieces = [Piece(W, 0, 0, 2, 3), Piece(W, 0, 0, 4, 4)]
    assert uncovered(pieces, W) == [(0, 2), (8, 12)]
    assert uncovered([*pieces, Piece(W, 0, 0, 0, 12)], W) == []
    assert uncovered([Piece(W, 1, 0, 0, 5), Piece(W, 1, 0, 5, 5)], W) == []
    assert uncovered([Piece(W, 1, 0, 0, 5)], W) == [(5, 10)]


def test_names_are_translated_word_by_word() -> None:
    assert loader_sources("transformer.layers.1.attention.qkv.bias", 40, LOADER_WORDS) == (
        "model.layers.41.self_attn.q_proj.bias",
        "model.layers.41.self_attn.k_proj.bias",
        "model.layers.41.self_attn.v_proj.bias",
    )
    assert loader_sources("transformer.layers.0.mlp.fc.weight", 0, LOADER_WORDS) == (
        "model.layers.0.mlp.gate_proj.weight",
    )
    assert loader_sources("lm_head.weight", 0, LOADER_WORDS) == ("lm_head.weight",)
