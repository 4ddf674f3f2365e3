"""What TensorRT's parser reads of an ONNX node: what else stands there it drops without a word.

Seen with TensorRT for RTX 1.7.1: an attribute that it does not know changes nothing, of any
operator (`qk_matmul_output_mode` of `Attention`, a `scale` of `RotaryEmbedding`); nor do inputs
beyond those that it takes (`nonpad_kv_seqlen`). What it knows and cannot do is an error of its own
(`softcap`, `softmax_precision`, `mode: circular` of `TensorScatter`).
Read: onnx-tensorrt, 10.1, onnxOpImporters.cpp, where the operator is that old.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

ATTRIBUTES: Mapping[str, frozenset[str]] = {
    name: frozenset(read)
    for name, read in {
        "ArgMax": ("axis", "keepdims"),
        "Attention": ("scale", "is_causal", "q_num_heads", "kv_num_heads"),
        "Cast": ("to",),
        "Concat": ("axis",),
        "CumSum": ("exclusive", "reverse"),
        "Einsum": ("equation",),
        "Gather": ("axis",),
        "GatherElements": ("axis",),
        "GatherND": ("batch_dims",),
        "Gelu": ("approximate",),
        "Gemm": ("transA", "transB", "alpha", "beta"),
        "LayerNormalization": ("axis", "epsilon", "stash_type"),
        "Mod": ("fmod",),
        "Pad": ("mode",),
        "RMSNormalization": ("axis", "epsilon", "stash_type"),
        "ReduceMax": ("keepdims",),
        "ReduceMean": ("keepdims",),
        "ReduceSum": ("keepdims",),
        "Reshape": ("allowzero",),
        "RotaryEmbedding": ("interleaved", "rotary_embedding_dim", "num_heads"),
        "ScatterElements": ("axis", "reduction"),
        "Shape": ("start", "end"),
        "Softmax": ("axis",),
        "Split": ("axis", "num_outputs"),
        "TensorScatter": ("axis", "mode"),
        "TopK": ("axis", "largest", "sorted"),
        "Transpose": ("perm",),
    }.items()
}
"""Operator -> the attributes that are read. Operators that are not here have none that are."""

INPUTS: Mapping[str, int] = {"Attention": 4, "RotaryEmbedding": 4, "TensorScatter": 3}
"""Operator -> inputs that are read, the first ones; operators that are not here have no others."""

OUTPUTS: Mapping[str, int] = {"Attention": 1, "LayerNormalization": 1}
"""Operator -> outputs that can be had."""


def dropped(nodes: Iterable[Any]) -> list[str]:
    """What the parser would drop of these ONNX nodes, each as a sentence."""
    return [fault for node in nodes for fault in _dropped(node)]


def _dropped(node: Any) -> list[str]:
    kind, name = node.op_type, node.name
    read = ATTRIBUTES.get(kind, frozenset())
    found = [
        f"attribute `{attribute.name}` of `{name}` ({kind}) is not read"
        for attribute in node.attribute
        if attribute.name not in read
    ]
    for what, taken, given in (("input", INPUTS, node.input), ("output", OUTPUTS, node.output)):
        most = taken.get(kind, len(given))
        found += [
            f"{what} `{value}` of `{name}` ({kind}) is dropped" for value in given[most:] if value
        ]
    return found
