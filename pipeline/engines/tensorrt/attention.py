"""The attention layers of a TensorRT network: found, and told apart by what decides their kernels.

Runs in the builder's child process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

INPUT_SUFFIX = "_AttentionInput"
"""What the parser appends to a node's name for the input boundary of its attention."""


def attention_layers(trt: Any, layers: Sequence[Any]) -> Mapping[str, Any]:
    """The `IAttention` of every attention layer, by the name of its node."""
    found = {}
    for layer in layers:
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            # How TensorRT's Python API casts a layer to its own interface.
            layer.__class__ = trt.IAttentionInputLayer
            found[layer.name.removesuffix(INPUT_SUFFIX)] = layer.attention
    return found


def inventory(attention: Iterable[Any]) -> list[dict[str, Any]]:
    """Equal layers counted: heads, head size, dtype, mask (dtype, heads) or causality."""
    counted = Counter(tuple(_facts(layer).items()) for layer in attention)
    return [{"layers": count, **dict(facts)} for facts, count in counted.items()]


def _facts(layer: Any) -> dict[str, Any]:
    query, key = layer.get_input(0), layer.get_input(1)
    mask = layer.mask
    return {
        "query_heads": query.shape[1],
        "key_value_heads": key.shape[1],
        "head_size": query.shape[3],
        "dtype": query.dtype.name,
        "causal": layer.causal,
        "mask_dtype": None if mask is None else mask.dtype.name,
        "mask_heads": None if mask is None else mask.shape[1],
    }
