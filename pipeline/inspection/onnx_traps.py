"""What keeps TensorRT from fusing an attention site: its own traps, its dtype and its heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.engines.tensorrt.facts import ANY_LENGTH
from pipeline.engines.tensorrt.onnx import MIN_HEAD_SIZE
from pipeline.inspection.onnx_finding import Effect, Finding, titles
from pipeline.inspection.onnx_operator_traps import CONTRIB_RULES, OPERATOR_RULES
from pipeline.inspection.onnx_parts_traps import PARTS_RULES
from pipeline.inspection.onnx_sites import Site
from pipeline.onnx_files.model import Node

VERDICTS = {"refused": "refused", "wrong": "wrong", "unfused": "unfused", "risk": "fused, at risk"}
"""Effect -> what becomes of a site that has it, the worst first."""


_WITH_QUERY = frozenset({"GroupQueryAttention", "MultiHeadAttention"})
"""ONNX Runtime's operators whose first input is a query; that of its `Attention` is none yet."""


def site_findings(site: Site) -> list[Finding]:
    """All traps of a site."""
    is_standard = site.kind == "Attention"
    own = PARTS_RULES if site.in_parts else OPERATOR_RULES if is_standard else CONTRIB_RULES
    return [finding for rule in (*own, _dtype, _head) for finding in rule(site)]


def verdict(site: Site, findings: Sequence[Finding]) -> str:
    """What TensorRT makes of a site; `unknown` where nothing is wrong and its dtype is not told."""
    effects = {finding.effect for finding in findings}
    worst = next((told for effect, told in VERDICTS.items() if effect in effects), None)
    if worst is None:
        return "fused" if site_dtypes(site) and head_size(site) is not None else "unknown"
    return worst


def _dtype(site: Site) -> Iterator[Finding]:
    wrong = [dtype for dtype in site_dtypes(site) if dtype not in ANY_LENGTH.dtypes]
    if wrong:
        yield Finding(
            "dtype",
            _no_kernel(site),
            f"it is computed in {' and '.join(wrong)}",
            f"fused kernels exist for {' and '.join(ANY_LENGTH.dtypes)} alone",
            "export the model in one of these; both products count",
            titles(*(site.products or (site.node,))),
        )


def _head(site: Site) -> Iterator[Finding]:
    size, heads = head_size(site), num_heads(site)
    most = ANY_LENGTH.head_sizes[-1]
    if size is not None and not MIN_HEAD_SIZE <= size <= most:
        yield Finding(
            "head size",
            _no_kernel(site),
            f"its head size is {size}",
            f"fused kernels exist for {MIN_HEAD_SIZE} to {most} alone",
            "none with this model; smaller heads can be padded",
            titles(site.node),
        )
    elif size is not None and size not in ANY_LENGTH.head_sizes:
        yield Finding(
            "head size",
            "risk",
            f"its head size is {size}, no multiple of {ANY_LENGTH.head_sizes.step}",
            "the builder pads it; a cache that it updates itself cannot be padded",
            f"pad heads to a multiple of {ANY_LENGTH.head_sizes.step}",
            titles(site.node),
        )
    if heads is not None and heads < ANY_LENGTH.min_heads:
        yield Finding(
            "heads",
            _no_kernel(site),
            f"it has {heads} head",
            f"fused kernels exist from {ANY_LENGTH.min_heads} heads on",
            "none with this model",
            titles(site.node),
        )


def _no_kernel(site: Site) -> Effect:
    """An operator is not taken apart: where no kernel exists, the build fails."""
    return "refused" if site.kind == "Attention" else "unfused"


def site_dtypes(site: Site) -> list[str]:
    """Known dtypes of what it multiplies, each once."""
    values = [node.inputs[0] for node in site.products] or [site.node.input(0)]
    found = (site.scope.type_of(value).dtype for value in values)
    return list(dict.fromkeys(dtype for dtype in found if dtype is not None))


def head_size(site: Site) -> int | None:
    """Head size of the query, where the file tells it."""
    return _query(site)[1]


def num_heads(site: Site) -> int | None:
    """Query heads, where the file tells them."""
    return _query(site)[0]


def _query(site: Site) -> tuple[int | None, int | None]:
    """Heads and head size; from 4 dims `[b, heads, s, size]`, or from 3 and the heads' number."""
    first = site.products[0] if site.in_parts else site.node
    dims = site.scope.type_of(first.input(0)).dims
    if dims is None or first.op == "Einsum":
        return None, None
    if len(dims) == 4:
        return _size(dims[1]), _size(dims[3])
    if site.in_parts:
        return None, _size(dims[-1]) if len(dims) == 3 else None
    return _width_of_heads(site.node, _size(dims[-1]) if len(dims) == 3 else None)


def _width_of_heads(node: Node, width: int | None) -> tuple[int | None, int | None]:
    """Of a query `[b, s, heads * size]`; one that has keys and values in it has their heads too."""
    num_heads = _size(node.attributes.get("q_num_heads" if node.is_standard else "num_heads"))
    num_packed = 0
    if not node.input(1) and node.op == "GroupQueryAttention":
        num_packed = 2 * (_size(node.attributes.get("kv_num_heads")) or 0)
    elif not node.is_standard and not (node.input(1) and node.op in _WITH_QUERY):
        return num_heads, None
    if num_heads is None or width is None:
        return num_heads, None
    return num_heads, width // (num_heads + num_packed)


def _size(dim: object) -> int | None:
    return dim if isinstance(dim, int) and dim > 0 else None
