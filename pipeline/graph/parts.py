"""What every part of a decoder is written with, and the choices that several parts know of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.description import Attention, LatentAttention
from pipeline.graph.positions import Positions
from pipeline.graph.weights import JoinedWeights


@dataclass(frozen=True, slots=True)
class Cache:
    """Keys and values of one layer: `[b, heads, t, key_size]` and `[b, heads, t, value_size]`."""

    key: str
    value: str


CacheOrder = Literal["heads", "tokens"]
"""Dims of a cache: `[b, heads, t, size]`, or `[b, t, heads * size]`, as projections give them.

By tokens nothing is transposed, which is faster on ONNX Runtime's CUDA provider; attention is then
told its numbers of heads. TensorRT's cache layer takes the first alone.
"""

Dialect = Literal["onnxruntime", "onnxruntime-cuda", "tensorrt"]
"""Where ONNX can say a thing in several ways, and only one of them suits a compiler."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What every part of a decoder is written with."""

    g: GraphBuilder
    weights: JoinedWeights
    at: Positions
    dialect: Dialect
    hidden_size: int
    order: CacheOrder = "heads"


def cached_value_size(attention: Attention | LatentAttention, dialect: Dialect) -> int:
    """Width of a head's values in the cache: that of keys, where a runtime needs both alike.

    TensorRT's parser refuses other values. ONNX Runtime's CUDA provider takes them and computes
    something else (1.31.1 on an H100: logits off by their own size); its CPU provider is right.
    """
    if dialect == "onnxruntime":
        return attention.value_size
    return max(attention.key_size, attention.value_size)
