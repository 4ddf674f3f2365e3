"""Traps of attention in parts: MatMul, Softmax, MatMul, and what may not stand between them."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.engines.tensorrt.facts import ANY_LENGTH
from pipeline.inspection.onnx_finding import GUIDE, Finding, Rule, titles
from pipeline.inspection.onnx_sites import Site


def _nan_guard(site: Site) -> Iterator[Finding]:
    for guard in (node for node in site.after if node.op == "Where"):
        check = site.scope.makers.get(guard.input(0))
        if check is None or check.op != "IsNaN":
            continue
        yield Finding(
            "NaN guard",
            "risk",
            "IsNaN and Where between softmax and product",
            "rows that are masked as a whole are replaced: no longer the plain pattern",
            "export with opset 23, where it becomes one `Attention`",
            titles(check, guard),
            GUIDE,
        )


def _capped(site: Site) -> Iterator[Finding]:
    capped = [node for node in site.before if node.op == "Tanh"]
    if capped:
        yield Finding(
            "softcap",
            "unfused",
            "scores pass `Tanh`: soft-capping",
            "no fused kernel has it",
            "none: the site compiles unfused",
            titles(*capped),
        )


def _sinks(site: Site) -> Iterator[Finding]:
    joined = [node for node in site.before if node.op == "Concat"]
    if joined:
        yield Finding(
            "attention sinks",
            "unfused",
            "scores are joined with other values before the softmax",
            "no fused kernel has it",
            "none: the site compiles unfused",
            titles(*joined),
        )


def _axis(site: Site) -> Iterator[Finding]:
    dims = site.scope.type_of(site.node.input(0)).dims
    axis = site.node.attributes.get("axis", -1)
    last = {-1} if dims is None else {-1, len(dims) - 1}
    if site.node.op == "Softmax" and isinstance(axis, int) and axis not in last:
        if dims is None and axis >= 0:
            return  # nobody knows which one is the last
        yield Finding(
            "axis",
            "unfused",
            f"its softmax is on dim {axis}",
            "the fused kernels take it on the last",
            "transpose the scores, so that keys are on the last dim",
            titles(site.node),
        )


def _softmax_in_parts(site: Site) -> Iterator[Finding]:
    if site.node.op != "Softmax":
        yield Finding(
            "softmax in parts",
            "unfused",
            "its softmax is written as exponentials and their sum",
            "no fused kernel from some 1000 tokens on; short ones were fused",
            "export it as `Softmax`",
            titles(site.node),
        )


def _island(site: Site) -> Iterator[Finding]:
    types = site.scope.type_of
    softmax = types(site.node.outputs[0]).dtype
    products = {types(product.inputs[0]).dtype for product in site.products}
    casts = [node for node in (*site.before, *site.after) if node.op == "Cast"]
    if softmax == "float32" and casts and products <= set(ANY_LENGTH.dtypes):
        yield Finding(
            "float32 island",
            "risk",
            f"its softmax is float32 between products in {', '.join(sorted(map(str, products)))}",
            "casts stand between softmax and products; fused kernels use float32 inside anyway",
            "export the softmax in the model's dtype",
            titles(*casts),
            f"{GUIDE}; others saw such graphs unfused",
        )


def _late_scale(site: Site) -> Iterator[Finding]:
    scales = [
        node
        for node in site.before
        if node.op in {"Mul", "Div"} and any(map(site.scope.is_stored, node.inputs))
    ]
    if scales and not any(node.op == "Tanh" for node in site.before):
        yield Finding(
            "late scale",
            "risk",
            "scores are scaled after the first product",
            "the scale belongs to the query or the key, before the product",
            "multiply the query by it, or both by its root",
            titles(*scales),
            GUIDE,
        )


def _between(site: Site) -> Iterator[Finding]:
    changes = [node for node in site.after if node.op in {"Dropout", "Mul", "Div"}]
    if changes:
        yield Finding(
            "between softmax and product",
            "risk",
            f"{', '.join(sorted({node.op for node in changes}))} between softmax and product",
            "no longer the plain pattern",
            "export in inference mode (`model.eval()`), without masks of heads",
            titles(*changes),
            GUIDE,
        )


PARTS_RULES: tuple[Rule, ...] = (
    _nan_guard,
    _capped,
    _sinks,
    _axis,
    _softmax_in_parts,
    _island,
    _late_scale,
    _between,
)
