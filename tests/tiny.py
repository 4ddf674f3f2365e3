"""Tiny source checkpoints in the Hugging Face layout, made with numpy alone.

Every size is different, and every value encodes its own place (tensor, row, column), so that a
swapped dim, a wrong slice or an exchanged tensor cannot pass for the right one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from pipeline.checkpoint.safetensors_file import encode_header

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 113,
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}

NUMPY_DTYPES: dict[str, Any] = {
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float32": np.float32,
    "int8": np.int8,
}

MANTISSA_BITS = {"bfloat16": 7, "float16": 10, "float32": 23, "int8": 2}


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a Llama with this config."""
    hidden, mlp = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden)
    }
    for layer in range(config["num_hidden_layers"]):
        linear = {
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "mlp.gate_proj": (mlp, hidden),
            "mlp.up_proj": (mlp, hidden),
            "mlp.down_proj": (hidden, mlp),
        }
        prefix = f"model.layers.{layer}"
        for name, shape in linear.items():
            found[f"{prefix}.{name}.weight"] = shape
            kind = "attention_bias" if name.startswith("self_attn") else "mlp_bias"
            if config.get(kind):
                found[f"{prefix}.{name}.bias"] = shape[:1]
        found[f"{prefix}.input_layernorm.weight"] = (hidden,)
        found[f"{prefix}.post_attention_layernorm.weight"] = (hidden,)
    found["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings"):
        found["lm_head.weight"] = (config["vocab_size"], hidden)
    return found


def values(number: int, shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    """Values that encode their place: finite, of either sign, from 2**-8 to 2**8.

    The number of the tensor and the place in it are mixed into sign, exponent and all bits of the
    mantissa, so that no two tensors, rows or columns look alike.
    """
    place = np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(number << 20)
    mixed = (place * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    bits = MANTISSA_BITS[dtype]
    fraction = (mixed & np.uint64(2**bits - 1)).astype(np.float64) / 2**bits
    exponent = ((mixed >> np.uint64(23)) & np.uint64(15)).astype(np.float64) - 8
    sign = np.where(mixed >> np.uint64(31), -1.0, 1.0)
    wide = sign * 2.0**exponent * (1 + fraction)
    return wide.reshape(shape).astype(NUMPY_DTYPES[dtype])


def tensors(
    config: Mapping[str, Any] = CONFIG, dtype: str = "bfloat16"
) -> dict[str, np.ndarray[Any, Any]]:
    """All tensors of a tiny Llama."""
    named = shapes(config)
    return {name: values(n, shape, dtype) for n, (name, shape) in enumerate(named.items())}


def write_weights(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write one weight file; tensors in the given order."""
    spelled = {np.dtype(dtype): name for name, dtype in NUMPY_DTYPES.items()}
    entries = [(name, spelled[array.dtype], array.shape) for name, array in arrays.items()]
    data = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
    path.write_bytes(encode_header(entries, {"format": "pt"}) + data)


def write_checkpoint(
    folder: Path,
    config: Mapping[str, Any] = CONFIG,
    arrays: Mapping[str, np.ndarray[Any, Any]] | None = None,
    *,
    dtype: str = "bfloat16",
    num_files: int = 2,
) -> Path:
    """Write a source checkpoint: config.json, weight files, and an index if there are several."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    arrays = tensors(config, dtype) if arrays is None else arrays
    if num_files == 1:
        write_weights(folder / "model.safetensors", arrays)
        return folder
    weight_map = {}
    for number in range(num_files):
        # Dealt out in turn, so that the tensors of a layer lie in different files.
        part = dict(list(arrays.items())[number::num_files])
        file = f"model-{number + 1:05}-of-{num_files:05}.safetensors"
        write_weights(folder / file, part)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
