"""Small random checkpoints that TensorRT-LLM's kernels take: the fixtures, with larger sizes.

The stored fixtures have heads of 8, which no fused kernel has. Each size of a fixture is another
number, so that a table from old to new ones makes the shapes of a larger checkpoint with the same
tensors and the same keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tests.families.fixtures import FIXTURES, open_fixture
from tests.tiny_tokenizer import write_tokenizer
from tests.weights.converting import load_all

VOCAB = 304
"""More than the tokenizer has (298), and a multiple of 16: as a matrix of a GPU should be."""

HIDDEN, HEADS, KV_HEADS, POSITIONS = 256, 4, 2, 1024


@dataclass(frozen=True)
class Larger:
    """`sizes`: length of a dim in the fixture -> here; `config`: keys that differ."""

    sizes: Mapping[int, int]
    config: Mapping[str, Any]


def _sizes(head_size: int, inner: tuple[int, int], *, vocab: int = 113) -> dict[int, int]:
    """Of a decoder whose fixture has 6 heads of 8 and 2 K/V heads on a width of 24."""
    heads = {48: HEADS * head_size, 16: KV_HEADS * head_size, 8: head_size}
    return {vocab: VOCAB, 24: HIDDEN, inner[0]: inner[1], **heads}


def _config(inner: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": inner,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": POSITIONS,
        **more,
    }


LARGER: Mapping[str, Larger] = {
    "llama": Larger(_sizes(64, (40, 512)), _config(512, head_dim=64)),
    "qwen3": Larger(_sizes(64, (40, 512)), _config(512, head_dim=64)),
    # Soft-capped attention has fused kernels for heads of 128 and 256 alone; the window is longer
    # than any prompt here.
    "gemma2": Larger(
        _sizes(128, (40, 512), vocab=114),
        _config(512, head_dim=128, query_pre_attn_scalar=128, sliding_window=POSITIONS),
    ),
    "gpt2": Larger(
        {113: VOCAB, 24: HIDDEN, 72: 3 * HIDDEN, 96: 4 * HIDDEN, 32: POSITIONS},
        {"vocab_size": VOCAB, "n_embd": HIDDEN, "n_head": HEADS, "n_positions": POSITIONS},
    ),
    # Its fixture has heads of 4: 6 of them are as wide as the model.
    "mixtral": Larger({113: VOCAB, 24: HIDDEN, 20: 256, 8: KV_HEADS * 64, 4: 4}, _config(256)),
}
"""Fixture -> how it grows."""


def write_source(folder: Path, name: str, seed: int = 0) -> Path:
    """A source checkpoint in float16, with a tokenizer. The same bytes for the same seed."""
    larger, rng = LARGER[name], np.random.default_rng(seed)
    arrays = load_all(FIXTURES / name)
    config = {**open_fixture(name).config, **larger.config}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None, "dtype": "float16"}
    write_tokenizer(folder, **{**config, **ends})
    weights = {
        tensor: _draw(rng, tensor, array, tuple(larger.sizes[size] for size in array.shape))
        for tensor, array in sorted(arrays.items())
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _draw(
    rng: np.random.Generator, name: str, like: NDArray[Any], shape: tuple[int, ...]
) -> NDArray[np.float16]:
    """Norms about what they are about in the fixture; matrices that keep activations in size."""
    values = rng.standard_normal(shape)
    if len(shape) == 1:
        about = 1.0 if float(np.mean(like.astype(np.float32))) > 0.5 else 0.0
        return (about + 0.1 * values).astype(np.float16)
    return (values * shape[-1] ** -0.5).astype(np.float16)
