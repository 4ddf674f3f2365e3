"""Sources to convert: random weights of a given size, and giant ones that hold no bytes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from pipeline.checkpoint.safetensors_file import encode_header
from tests.tiny import shapes

Shapes = Mapping[str, tuple[int, ...]]

SMALL: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 1,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
LLAMA_70B = {
    **SMALL,
    "vocab_size": 128256,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "head_dim": 128,
}
MIXTRAL = {
    **SMALL,
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "hidden_size": 1024,
    "intermediate_size": 1024,
    "num_attention_heads": 16,
    "num_local_experts": 64,
    "num_experts_per_tok": 2,
    "sliding_window": None,
}
MOE_1T = {
    **MIXTRAL,
    "vocab_size": 163840,
    "hidden_size": 7168,
    "intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 64,
    "head_dim": 112,
    "num_local_experts": 384,
    "num_experts_per_tok": 8,
}


def tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor: a Llama's, with experts in place of the MLP if there are any."""
    named = shapes(config)
    experts = config.get("num_local_experts")
    if experts is None:
        return named
    named = {name: shape for name, shape in named.items() if ".mlp." not in name}
    hidden, mlp = config["hidden_size"], config["intermediate_size"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}.block_sparse_moe"
        named[f"{prefix}.gate.weight"] = (experts, hidden)
        for expert in range(experts):
            named[f"{prefix}.experts.{expert}.w1.weight"] = (mlp, hidden)
            named[f"{prefix}.experts.{expert}.w2.weight"] = (hidden, mlp)
            named[f"{prefix}.experts.{expert}.w3.weight"] = (mlp, hidden)
    return named


def of_size(config: Mapping[str, Any], size_bytes: int) -> dict[str, Any]:
    """The config with as many layers as make about this size in bfloat16, at least one."""
    one, two = (_num_bytes(tensors({**config, "num_hidden_layers": n})) for n in (1, 2))
    layers = max(1, round((size_bytes - one) / (two - one)) + 1)
    return {**config, "num_hidden_layers": layers}


def write_source(folder: Path, config: Mapping[str, Any]) -> int:
    """A source with random finite bf16 weights, in one file. Returns its size in bytes."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    path = folder / "model.safetensors"
    named = tensors(config)
    with path.open("wb") as stream:
        stream.write(encode_header([(n, "bfloat16", s) for n, s in named.items()], {}))
        # As weights are: around zero, within a few standard deviations of 0.02.
        values = 0.02 * np.random.default_rng(1).standard_normal(1 << 20)
        block = values.astype(ml_dtypes.bfloat16).tobytes()
        for shape in named.values():
            count = 2 * math.prod(shape)
            for start in range(0, count, len(block)):
                stream.write(block[: min(len(block), count - start)])
    return path.stat().st_size


def write_files(folder: Path, config: Mapping[str, Any], num_files: int) -> None:
    """A source of random bytes in this many files of about equal size, with an index."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    weight_map: dict[str, str] = {}
    for file, part in _shares(tensors(config), num_files):
        with (folder / file).open("wb") as stream:
            stream.write(encode_header([(n, "bfloat16", s) for n, s in part.items()], {}))
            for count in (2 * math.prod(shape) for shape in part.values()):
                for start in range(0, count, 16 << 20):
                    stream.write(os.urandom(min(16 << 20, count - start)))
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _shares(named: Shapes, num_files: int) -> Iterator[tuple[str, dict[str, tuple[int, ...]]]]:
    """Weight files of about equal size, and the tensors of each."""
    items, share = list(named.items()), _num_bytes(named) / num_files
    for number in range(num_files):
        part: dict[str, tuple[int, ...]] = {}
        while items and (number == num_files - 1 or _num_bytes(part) < share):
            part |= [items.pop(0)]
        yield f"model-{number + 1:05}-of-{num_files:05}.safetensors", part


def write_holes(folder: Path, config: Mapping[str, Any], num_files: int) -> int:
    """A source whose weight files are holes behind their headers. Returns the claimed bytes."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    items = sorted(tensors(config).items())
    weight_map: dict[str, str] = {}
    claimed = 0
    for number in range(num_files):
        part = dict(
            items[number * len(items) // num_files : (number + 1) * len(items) // num_files]
        )
        file = f"model-{number + 1:05}-of-{num_files:05}.safetensors"
        head = encode_header([(n, "bfloat16", s) for n, s in part.items()], {"format": "pt"})
        (folder / file).write_bytes(head)
        os.truncate(folder / file, len(head) + _num_bytes(part))
        weight_map |= dict.fromkeys(part, file)
        claimed += _num_bytes(part)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return claimed


def _num_bytes(named: Shapes) -> int:
    sizes: Sequence[int] = [2 * math.prod(shape) for shape in named.values()]
    return sum(sizes)
