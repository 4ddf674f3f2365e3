"""Joined views of the rank files: byte ranges that make the whole model's tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.errors import VerificationError
from pipeline.graph.config import read_config
from pipeline.graph.weights import Joined, JoinedWeights
from tests.tiny_decoder import EIGHT_HEADS, Shape, random_weights, write_checkpoint


def open_weights(folder: Path) -> JoinedWeights:
    checkpoint = open_trtllm_checkpoint(folder)
    return JoinedWeights(checkpoint, read_config(checkpoint.config))


def read(folder: Path, joined: Joined) -> NDArray[np.float32]:
    """The bytes that a joined tensor refers to, as a runtime reads them."""
    parts = []
    for part in joined.parts:
        data = (folder / part.file).read_bytes()[part.offset : part.offset + part.num_bytes]
        parts.append(np.frombuffer(data, dtype=np.float32).reshape(part.shape))
    return np.concatenate(parts, axis=joined.dim)


@pytest.mark.parametrize(("tp_size", "pp_size"), [(1, 1), (2, 1), (2, 3), (4, 2)])
def test_every_tensor_joins_to_the_whole(tmp_path: Path, tp_size: int, pp_size: int) -> None:
    shape = replace(EIGHT_HEADS, attn_bias=True)
    whole = random_weights(shape)
    folder = write_checkpoint(tmp_path, shape, whole, tp_size, pp_size)
    weights = open_weights(folder)
    for layer in range(shape.num_layers):
        for part in ("q", "k", "v"):
            joined = weights.heads(part, "weight", layer)
            assert joined.name == f"transformer.layers.{layer}.attention.{part}.weight"
            assert np.array_equal(read(folder, joined), whole[f"{layer}.{part}"])
            bias = weights.heads(part, "bias", layer)
            assert np.array_equal(read(folder, bias), whole[f"{layer}.{part}.bias"])
        dense = weights.split("attention.dense.weight", (40, 128), 1, layer)
        assert dense.shape == (40, 128)
        assert np.array_equal(read(folder, dense), whole[f"{layer}.dense"])
        norm = weights.whole("post_layernorm.weight", (40,), layer)
        assert np.array_equal(read(folder, norm), whole[f"{layer}.norm2"])
    assert np.array_equal(read(folder, weights.embedding()), whole["embedding"])
    assert weights.head().shape == (113, 40)
    assert np.array_equal(read(folder, weights.head()), whole["head"])
    weights.raise_faults()


def test_a_rank_of_padding_alone_is_left_out(tmp_path: Path) -> None:
    shape = replace(
        EIGHT_HEADS, vocab_size=9
    )  # 9 rows over 8 ranks: two each, the last three empty
    whole = random_weights(shape)
    folder = write_checkpoint(tmp_path, shape, whole, tp_size=8)
    head = open_weights(folder).head()
    assert len(head.parts) == 5
    assert np.array_equal(read(folder, head), whole["head"])


def test_a_missing_layer_is_found(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, Shape(), random_weights(Shape()), num_hidden_layers=4)
    with pytest.raises(VerificationError, match="hold 3 layers, but `num_hidden_layers` is 4"):
        open_weights(folder)


def test_another_dtype_is_a_fault(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, Shape(), random_weights(Shape()), dtype="bfloat16")
    weights = open_weights(folder)
    weights.head()
    with pytest.raises(VerificationError) as caught:
        weights.raise_faults()
    assert caught.value.facts == (
        "`lm_head.weight` of `rank0.safetensors` is float32 [113, 40], expected bfloat16 [113, 40]",
    )
