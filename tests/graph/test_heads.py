"""Query and key heads with their norms, before rotary positions and after, in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.config import read_decoder
from pipeline.graph.description import Attention, Norm
from pipeline.graph.heads import heads_of
from pipeline.graph.parts import CacheOrder, Parts
from pipeline.graph.positions import Positions
from pipeline.graph.rotary import rotary_tables
from pipeline.graph.weights import JoinedWeights
from tests.families.executing import converted

Array = NDArray[np.float64]
TOKENS = 5


def normed(kind: Norm, x: Array, weight: Array) -> Array:
    """x `[s, heads, d]`, weight `[d]` or `[heads, d]`."""
    if kind.kind == "layer":
        x = x - x.mean(-1, keepdims=True)
    found: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + kind.epsilon) * weight
    return found


def rotated(attention: Attention, x: Array) -> Array:
    """x `[s, heads, d]`, all of whose dims are rotated; token `i` stands at position `i`."""
    assert attention.rotary is not None
    tables = rotary_tables(attention.rotary, TOKENS)
    cos, sin = (table.astype(np.float64)[:, None, :] for table in tables)
    found, half = np.empty_like(x), x.shape[-1] // 2
    pairs = attention.rotary.interleaved
    one, two = (slice(0, None, 2), slice(1, None, 2)) if pairs else (slice(half), slice(half, None))
    found[..., one] = x[..., one] * cos - x[..., two] * sin
    found[..., two] = x[..., one] * sin + x[..., two] * cos
    return found


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("order", ["heads", "tokens"])
@pytest.mark.parametrize("part", ["q", "k"])
@pytest.mark.parametrize("name", ["qwen3", "cohere-qk-norm"])
def test_norms_of_heads(
    name: str, part: Literal["q", "k"], order: CacheOrder, after: bool, tmp_path: Path
) -> None:
    """One weight for all heads (Qwen 3), and one for each (Cohere)."""
    checkpoint = converted(name, tmp_path)
    decoder = read_decoder(checkpoint.config)
    attention = decoder.layers[0].attention
    assert isinstance(attention, Attention)
    assert attention.head_norm is not None
    wide = replace(attention.head_norm, epsilon=0.05)
    attention = replace(attention, head_norm=wide, norm_after_rotary=after)
    heads = attention.num_attention_heads if part == "q" else attention.num_key_value_heads
    hidden = np.random.default_rng(2).normal(size=(1, TOKENS, decoder.hidden_size))

    g = GraphBuilder("float32")
    g.input("input_ids", "int64", ["batch", "seq"])
    x = g.input("hidden", "float32", ["batch", "seq", decoder.hidden_size])
    at = Positions(g, "mask", TOKENS, TOKENS, None)
    parts = Parts(g, JoinedWeights(checkpoint), at, "onnxruntime", decoder.hidden_size, order=order)
    made = heads_of(parts, attention, 0, part, x)
    g.output(made, "float32", ["a", "b", "c", "d"][: 4 if order == "heads" else 3])
    options = ort.SessionOptions()
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(checkpoint.path)
    )
    session = ort.InferenceSession(
        g.model("heads").SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {
        "hidden": hidden.astype(np.float32),
        "position_ids": np.arange(TOKENS)[None],
        # Not read here, but declared all the same.
        "input_ids": np.zeros((1, TOKENS), np.int64),
        "write_indices": np.zeros(1, np.int64),
        "mask": np.ones((1, 1, TOKENS, TOKENS), bool),
    }
    (found,) = session.run([made], {port.name: feeds[port.name] for port in session.get_inputs()})
    if order == "tokens":
        found = found.reshape(1, TOKENS, heads, -1).transpose(0, 2, 1, 3)

    stored = {
        key: value.astype(np.float64)
        for key, value in load_file(checkpoint.path / "rank0.safetensors").items()
    }
    qkv = stored["transformer.layers.0.attention.qkv.weight"]
    size, first = attention.head_size, 0 if part == "q" else attention.num_attention_heads
    rows = qkv[first * size : (first + heads) * size]
    plain = (hidden[0] @ rows.T).reshape(TOKENS, heads, size)
    weight = stored[f"transformer.layers.0.attention.{part}_layernorm.weight"]
    if after:
        expected = normed(wide, rotated(attention, plain), weight)
    else:
        expected = rotated(attention, normed(wide, plain, weight))
    assert np.abs(found[0] - expected.transpose(1, 0, 2)).max() < 1e-5
