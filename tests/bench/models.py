"""Llamas with random weights, as Hugging Face checkpoints. `BENCH_LAYERS` makes them smaller."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.checkpoint.safetensors_file import encode_header
from tests.bench.sources import SMALL
from tests.tiny import NUMPY_DTYPES, shapes

M100 = {
    **SMALL,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
}
M500 = {
    **SMALL,
    "hidden_size": 1280,
    "intermediate_size": 3456,
    "num_hidden_layers": 24,
    "num_attention_heads": 20,
    "num_key_value_heads": 4,
}
B1 = {**SMALL, "num_hidden_layers": 22, "num_key_value_heads": 4}
"""The shape of TinyLlama, 1.1 B parameters."""

# Of no use to anybody, but some tools refuse a checkpoint without one.
_TOKENS = {"<unk>": 0, "<s>": 1, "</s>": 2}
_TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "WordLevel", "vocab": _TOKENS, "unk_token": "<unk>"},
}
_TOKENIZER_CONFIG = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}

_DRAWN = (1 << 24) + 3
"""Numbers that are drawn and then repeated; odd, so that no two rows of a matrix are the same:
with equal rows greedy decoding would meet equal logits."""


def cut(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with `BENCH_LAYERS` layers, where that is set."""
    layers = os.environ.get("BENCH_LAYERS")
    return {**config} if layers is None else {**config, "num_hidden_layers": int(layers)}


def num_parameters(config: Mapping[str, Any]) -> int:
    """How many weights a Llama of this config has."""
    return sum(math.prod(shape) for shape in shapes(config).values())


def title(config: Mapping[str, Any]) -> str:
    """Its size for people."""
    return f"{num_parameters(config) / 1e6:,.0f} M parameters"


def write_llama(folder: Path, config: Mapping[str, Any], dtype: str) -> None:
    """A checkpoint in one file: weights of a deviation of 0.02, norms of one."""
    folder.mkdir()
    facts = {**config, "torch_dtype": dtype, "bos_token_id": 1, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(facts))
    (folder / "tokenizer.json").write_text(json.dumps(_TOKENIZER))
    (folder / "tokenizer_config.json").write_text(json.dumps(_TOKENIZER_CONFIG))
    named = shapes(config)
    drawn = np.random.default_rng(1).standard_normal(_DRAWN, np.float32) * np.float32(0.02)
    cells = np.concatenate([drawn.astype(NUMPY_DTYPES[dtype])] * 2)
    at = 0
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(encode_header([(n, dtype, s) for n, s in named.items()], {"format": "pt"}))
        for shape in named.values():
            if len(shape) == 1:
                stream.write(np.ones(shape, cells.dtype).tobytes())
                continue
            for _ in range(shape[0]):
                stream.write(cells[at : at + shape[1]].view(np.uint8).data)
                at = (at + shape[1]) % _DRAWN
