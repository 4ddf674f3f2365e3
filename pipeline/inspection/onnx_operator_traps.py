"""Traps of attention that is one operator: the standard `Attention`, and ONNX Runtime's own."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.inspection.onnx_finding import Finding, Rule, titles
from pipeline.inspection.onnx_sites import CONTROL_FLOW, Site


def _mask_and_causal(site: Site) -> Iterator[Finding]:
    causal = site.node.attributes.get("is_causal", 0) != 0
    if site.node.input(3) and causal:
        yield Finding(
            "mask and causal",
            "refused",
            "it has both a mask and `is_causal`",
            "the parser takes one of the two",
            "put causality into the mask, and leave `is_causal` out",
            titles(site.node),
        )


def _cache(site: Site) -> Iterator[Finding]:
    node = site.node
    if node.input(4) or node.input(5) or any(node.outputs[1:3]):
        yield Finding(
            "past and present",
            "refused",
            "it has past inputs or present outputs",
            "the parser takes no `past_key` and `past_value`, and only one output",
            "keep the cache outside: `TensorScatter` into it, and attend to what that gives",
            titles(node),
        )
    if any(node.outputs[3:]):
        yield Finding(
            "scores as output",
            "refused",
            "it gives its scores out (`qk_matmul_output`)",
            "the parser takes only one output, and a fused kernel never holds the scores",
            "export without attention weights among the outputs",
            titles(node),
        )


def _lengths(site: Site) -> Iterator[Finding]:
    if site.node.input(6):
        yield Finding(
            "lengths",
            "wrong",
            "it has `nonpad_kv_seqlen`",
            "the parser leaves this input out without a word, so that padding is attended to",
            "export with a mask instead",
            titles(site.node),
        )


def _attributes(site: Site) -> Iterator[Finding]:
    attributes = site.node.attributes
    if attributes.get("softcap", 0.0) != 0:
        yield Finding(
            "softcap",
            "refused",
            "it has `softcap`",
            "the parser takes no soft-capping",
            "there is no fused form of it in ONNX: plain operators compile, unfused",
            titles(site.node),
        )
    if "softmax_precision" in attributes:
        yield Finding(
            "softmax precision",
            "refused",
            "it has `softmax_precision`",
            "the parser takes no precision for the softmax; fused kernels use float32 inside",
            "leave the attribute out",
            titles(site.node),
        )


def _in_control_flow(site: Site) -> Iterator[Finding]:
    around = [op for op in site.scope.inside if op in CONTROL_FLOW]
    if around:
        yield Finding(
            "control flow",
            "refused",
            f"it is inside `{around[-1]}`",
            "the builder fails on attention operators inside of conditions and loops",
            "export one branch, or one pass of the loop, as a graph of its own",
            titles(site.node),
        )


def _mask_dtype(site: Site) -> Iterator[Finding]:
    mask = site.scope.type_of(site.node.input(3)).dtype
    query = site.scope.type_of(site.node.input(0)).dtype
    if mask is not None and query is not None and mask not in {"bool", query}:
        yield Finding(
            "dtype of the mask",
            "refused",
            f"its mask is {mask}, its query {query}",
            "the builder adds the one to the other, and casts neither",
            f"export with a mask of bool or {query}",
            titles(site.node),
        )


def _value_head_size(site: Site) -> Iterator[Finding]:
    key, value = (site.scope.type_of(site.node.input(position)).dims for position in (1, 2))
    if key and value and len(key) == 4 == len(value):
        sizes = key[-1], value[-1]
        if all(isinstance(size, int) for size in sizes) and sizes[0] != sizes[1]:
            yield Finding(
                "head size of values",
                "refused",
                f"its keys have head size {sizes[0]}, its values {sizes[1]}",
                "the builder takes keys and values of one shape alone",
                "pad the smaller with zeros, and cut them off the result",
                titles(site.node),
            )


# ONNX Runtime's operators

_NEEDED = {1: "key", 2: "value"}
_NOT_TAKEN = {3: "bias", 4: "key_padding_mask", 6: "past_key", 7: "past_value"}
"""Inputs of `MultiHeadAttention`: those that TensorRT's parser asks for, and those it refuses."""


def _contrib(site: Site) -> Iterator[Finding]:
    node = site.node
    if node.op != "MultiHeadAttention":
        yield Finding(
            "contributed operator",
            "refused",
            f"it is ONNX Runtime's own `{node.op}`",
            "TensorRT has no layer for it: its parser knows the name at most, and asks for a "
            "plugin or takes it for the standard operator",
            "export with the standard operator `Attention` (opset 23)",
            titles(node),
        )
        return
    wrong = [f"has no `{name}`" for place, name in _NEEDED.items() if not node.input(place)]
    wrong += [f"has `{name}`" for place, name in _NOT_TAKEN.items() if node.input(place)]
    wrong += ["has more than one output"] if any(node.outputs[1:]) else []
    if wrong:
        yield Finding(
            "contributed operator",
            "refused",
            f"it is ONNX Runtime's `{node.op}`, and {', '.join(wrong)}",
            "the parser takes query, key, value and `attention_bias`, and gives one output",
            "export with the standard operator `Attention` (opset 23)",
            titles(node),
        )


OPERATOR_RULES: tuple[Rule, ...] = (
    _mask_and_causal,
    _cache,
    _lengths,
    _attributes,
    _in_control_flow,
    _mask_dtype,
    _value_head_size,
)
CONTRIB_RULES: tuple[Rule, ...] = (_contrib,)
