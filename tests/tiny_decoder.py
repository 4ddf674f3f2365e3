"""A tiny TensorRT-LLM checkpoint with every size different, and its decoder in plain float64.

Written apart from the package: the split over ranks and the mathematics are stated here a second
time, so that a fault of the package cannot hide behind itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = NDArray[Any]
Weights = Mapping[str, Array]


@dataclass(frozen=True)
class Shape:
    """A decoder of the LLaMA class."""

    vocab_size: int = 113
    hidden_size: int = 40
    intermediate_size: int = 72
    num_layers: int = 3
    num_heads: int = 6
    num_kv_heads: int = 2
    head_size: int = 16
    dtype: str = "float32"
    hidden_act: str = "silu"
    attn_bias: bool = False
    mlp_bias: bool = False
    rotary_base: float = 10000.0
    rotary_scaling: Mapping[str, Any] | None = None
    max_position_embeddings: int = 96
    norm_epsilon: float = 1e-5

    def config(self, tp_size: int = 1, pp_size: int = 1) -> dict[str, Any]:
        """config.json of the checkpoint, as TensorRT-LLM 1.2 has it for a LLaMA."""
        return {
            "architecture": "LlamaForCausalLM",
            "dtype": self.dtype,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_size": self.head_size,
            "hidden_act": self.hidden_act,
            "attn_bias": self.attn_bias,
            "mlp_bias": self.mlp_bias,
            "rotary_base": self.rotary_base,
            "rotary_scaling": self.rotary_scaling,
            "max_position_embeddings": self.max_position_embeddings,
            "norm_epsilon": self.norm_epsilon,
            "position_embedding_type": "rope_gpt_neox",
            "logits_dtype": "float32",
            "qk_layernorm": False,
            "use_parallel_embedding": False,
            "embedding_sharding_dim": 0,
            "moe": {"num_experts": 0},
            "mapping": {
                "world_size": tp_size * pp_size,
                "tp_size": tp_size,
                "pp_size": pp_size,
                "cp_size": 1,
                "moe_tp_size": tp_size,
                "moe_ep_size": 1,
            },
            "quantization": {},
        }


def random_weights(shape: Shape, seed: int = 0) -> dict[str, Array]:
    """Weights of the whole model, q, k and v apart, rounded to the shape's dtype."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(ml_dtypes.bfloat16 if shape.dtype == "bfloat16" else shape.dtype)

    def draw(*dims: int, about: float = 0.0, scale: float | None = None) -> Array:
        size = dims[-1] ** -0.5 if scale is None else scale
        return (about + rng.standard_normal(dims) * size).astype(dtype)

    hidden, inner = shape.hidden_size, shape.intermediate_size
    rows = {"q": shape.num_heads * shape.head_size}
    rows["k"] = rows["v"] = shape.num_kv_heads * shape.head_size
    weights = {"embedding": draw(shape.vocab_size, hidden, scale=1.0)}
    for layer in range(shape.num_layers):
        for part, count in rows.items():
            weights[f"{layer}.{part}"] = draw(count, hidden)
            weights[f"{layer}.{part}.bias"] = draw(count, scale=0.3)
        weights[f"{layer}.dense"] = draw(hidden, rows["q"])
        weights[f"{layer}.dense.bias"] = draw(hidden, scale=0.3)
        for name, dims in {
            "fc": (inner, hidden),
            "gate": (inner, hidden),
            "proj": (hidden, inner),
        }.items():
            weights[f"{layer}.{name}"] = draw(*dims)
            weights[f"{layer}.{name}.bias"] = draw(dims[0], scale=0.3)
        weights[f"{layer}.norm1"] = draw(hidden, about=1.0, scale=0.2)
        weights[f"{layer}.norm2"] = draw(hidden, about=1.0, scale=0.2)
    weights["norm"] = draw(hidden, about=1.0, scale=0.2)
    weights["head"] = draw(shape.vocab_size, hidden)
    return weights


def write_checkpoint(
    folder: Path,
    shape: Shape,
    weights: Weights,
    tp_size: int = 1,
    pp_size: int = 1,
    shard_embedding: int | None = None,
    **config: Any,
) -> Path:
    """Write config.json and the rank files; `config` overrides keys. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {**shape.config(tp_size, pp_size), **config}
    if shard_embedding is not None:
        document |= {"use_parallel_embedding": True, "embedding_sharding_dim": shard_embedding}
    (folder / "config.json").write_text(json.dumps(document))
    layers = np.array_split(np.arange(shape.num_layers), pp_size)
    for pp_rank, held in enumerate(layers):
        for tp_rank in range(tp_size):
            tensors = {}
            if pp_rank == 0:
                table = weights["embedding"]
                if shard_embedding is not None:
                    table = _even_part(table, tp_size, tp_rank, shard_embedding)
                tensors["transformer.vocab_embedding.weight"] = table
            for local, layer in enumerate(held):
                prefix = f"transformer.layers.{local}"
                tensors |= _layer(shape, weights, int(layer), prefix, tp_size, tp_rank)
            if pp_rank == pp_size - 1:
                tensors["transformer.ln_f.weight"] = weights["norm"]
                tensors["lm_head.weight"] = _even_part(weights["head"], tp_size, tp_rank, 0)
            kept = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
            save_file(kept, folder / f"rank{pp_rank * tp_size + tp_rank}.safetensors")
    return folder


def _layer(
    shape: Shape, weights: Weights, layer: int, prefix: str, tp_size: int, tp_rank: int
) -> dict[str, Array]:
    heads = _local_heads(shape, tp_size, tp_rank)
    suffixes = {"": ".weight"} | ({".bias": ".bias"} if shape.attn_bias else {})
    tensors = {}
    for ours, theirs in suffixes.items():
        parts = [
            weights[f"{layer}.{part}{ours}"][head * shape.head_size : (head + 1) * shape.head_size]
            for part, chosen in heads.items()
            for head in chosen
        ]
        tensors[f"{prefix}.attention.qkv{theirs}"] = np.concatenate(parts)
    for name, place, dim in (
        ("dense", "attention", 1),
        ("fc", "mlp", 0),
        ("gate", "mlp", 0),
        ("proj", "mlp", 1),
    ):
        value = np.split(weights[f"{layer}.{name}"], tp_size, axis=dim)[tp_rank]
        tensors[f"{prefix}.{place}.{name}.weight"] = value
        if shape.attn_bias if place == "attention" else shape.mlp_bias:
            bias = weights[f"{layer}.{name}.bias"]
            split = np.split(bias, tp_size)[tp_rank] if dim == 0 else bias
            tensors[f"{prefix}.{place}.{name}.bias"] = split
    tensors[f"{prefix}.input_layernorm.weight"] = weights[f"{layer}.norm1"]
    tensors[f"{prefix}.post_layernorm.weight"] = weights[f"{layer}.norm2"]
    return tensors


def _local_heads(shape: Shape, tp_size: int, tp_rank: int) -> dict[str, list[int]]:
    """Heads of a tp rank; with fewer K/V heads than ranks, each rank has the one it needs."""
    num_q = shape.num_heads // tp_size
    queries = list(range(tp_rank * num_q, (tp_rank + 1) * num_q))
    group = shape.num_heads // shape.num_kv_heads
    keys = sorted({head // group for head in queries})
    return {"q": queries, "k": keys, "v": keys}


def _even_part(table: Array, num_parts: int, part: int, dim: int) -> Array:
    """One of equal parts, after padding with zeros at the end."""
    size = -(-table.shape[dim] // num_parts)
    widths = [(0, 0), (0, 0)]
    widths[dim] = (0, size * num_parts - table.shape[dim])
    return np.split(np.pad(table, widths), num_parts, axis=dim)[part]


def reference_logits(shape: Shape, weights: Weights, token_ids: list[int]) -> Array:
    """Logits `[len(token_ids), vocab_size]` of the whole model, all in float64."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    x = w["embedding"][np.array(token_ids)]
    for layer in range(shape.num_layers):
        x = x + _attention(shape, w, layer, _rms_norm(shape, x, w[f"{layer}.norm1"]))
        normed = _rms_norm(shape, x, w[f"{layer}.norm2"])
        gated = _act(shape, _linear(shape.mlp_bias, w, f"{layer}.fc", normed))
        gated = gated * _linear(shape.mlp_bias, w, f"{layer}.gate", normed)
        x = x + _linear(shape.mlp_bias, w, f"{layer}.proj", gated)
    return _rms_norm(shape, x, w["norm"]) @ w["head"].T


def _rms_norm(shape: Shape, x: Array, scale: Array) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + shape.norm_epsilon) * scale


def _linear(bias: bool, w: Weights, name: str, x: Array) -> Array:
    y = x @ w[name].T
    return y + w[f"{name}.bias"] if bias else y


def _act(shape: Shape, x: Array) -> Array:
    if shape.hidden_act == "silu":
        return x / (1 + np.exp(-x))
    if shape.hidden_act == "relu":
        return np.maximum(x, 0)
    if shape.hidden_act == "gelu":
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _attention(shape: Shape, w: Weights, layer: int, x: Array) -> Array:
    num_tokens, size = len(x), shape.head_size
    bias = shape.attn_bias
    q = _linear(bias, w, f"{layer}.q", x).reshape(num_tokens, shape.num_heads, size)
    k = _linear(bias, w, f"{layer}.k", x).reshape(num_tokens, shape.num_kv_heads, size)
    v = _linear(bias, w, f"{layer}.v", x).reshape(num_tokens, shape.num_kv_heads, size)
    q, k = rotate(shape, q), rotate(shape, k)
    out = np.zeros((num_tokens, shape.num_heads, size))
    for head in range(shape.num_heads):
        group = head // (shape.num_heads // shape.num_kv_heads)
        for i in range(num_tokens):
            scores = k[: i + 1, group] @ q[i, head] / math.sqrt(size)
            chances = np.exp(scores - scores.max())
            out[i, head] = chances @ v[: i + 1, group] / chances.sum()
    return _linear(bias, w, f"{layer}.dense", out.reshape(num_tokens, -1))


def rotate(shape: Shape, x: Array) -> Array:
    """Rotary positions 0, 1, ... on `[tokens, heads, head_size]`, pairs (i, i + head_size / 2)."""
    half = shape.head_size // 2
    out = x.copy()
    for i in range(half):
        angle, factor = frequency(shape, i)
        for position in range(len(x)):
            cos, sin = (factor * f(position * angle) for f in (math.cos, math.sin))
            a, b = x[position, :, i], x[position, :, i + half]
            out[position, :, i], out[position, :, i + half] = a * cos - b * sin, b * cos + a * sin
    return out


def frequency(shape: Shape, i: int) -> tuple[float, float]:
    """Angle per position of rotary pair `i`, and the factor of cos and sin."""
    scaling = shape.rotary_scaling or {"rope_type": "default"}
    plain = shape.rotary_base ** (-2 * i / shape.head_size)
    factor = scaling.get("factor", 1.0)
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind in ("default", "dynamic"):
        return plain, 1.0
    if kind == "linear":
        return plain / factor, 1.0
    trained = scaling["original_max_position_embeddings"]
    if kind == "llama3":
        turns = trained * plain / (2 * math.pi)
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        blend = min(1.0, max(0.0, (turns - low) / (high - low)))
        return (1 - blend) * plain / factor + blend * plain, 1.0
    assert kind == "yarn"

    def dim_of(num_turns: float) -> float:
        wavelengths = math.log(trained / (num_turns * 2 * math.pi))
        return shape.head_size * wavelengths / (2 * math.log(shape.rotary_base))

    low = max(math.floor(dim_of(scaling.get("beta_fast", 32))), 0)
    high = min(math.ceil(dim_of(scaling.get("beta_slow", 1))), shape.head_size - 1)
    ramp = min(1.0, max(0.0, (i - low) / (high - low)))
    magnitude = scaling.get("attention_factor", 0.1 * math.log(factor) + 1)
    return plain / factor * ramp + plain * (1 - ramp), magnitude


def relative_error(got: Array, expected: Array) -> float:
    """Largest difference over the largest expected value."""
    return float(np.abs(got - expected).max() / np.abs(expected).max())


EIGHT_HEADS = replace(Shape(), num_heads=8)
"""Heads for four tp ranks, which share two K/V heads."""
