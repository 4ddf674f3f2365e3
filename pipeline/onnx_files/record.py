"""What a record says of an ONNX file: the same for the same file, wherever it lies."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.artifact import Json
from pipeline.onnx_files.external import FileSize, external_bytes, external_files
from pipeline.onnx_files.model import MAIN_DOMAIN, Model, Port
from pipeline.sources.names import why_unsafe

ATTENTION_OPS = {
    MAIN_DOMAIN: ("Attention",),
    "com.microsoft": (
        "Attention",
        "DecoderMaskedMultiHeadAttention",
        "DecoderMaskedSelfAttention",
        "GroupQueryAttention",
        "MultiHeadAttention",
        "PackedAttention",
        "PackedMultiHeadAttention",
        "PagedAttention",
        "QAttention",
        "SparseAttention",
    ),
}
"""Operators that are an attention as a whole (ONNX 1.23; ONNX Runtime 1.32, ContribOperators)."""


def graph_record(model: Model, size_of: FileSize) -> dict[str, Json]:
    """Opset, IR version, producer, operators by domain, attention nodes, ports, external data.

    Of external data: each file with its size (None: missing), and the bytes that weights have in
    it. Sizes are in bytes.
    """
    return {
        "opset": model.opsets.get(MAIN_DOMAIN),
        "opsets": dict(sorted(model.opsets.items())),
        "ir_version": model.ir_version,
        "producer": " ".join(filter(None, (model.producer, model.producer_version))),
        "op_counts": {domain: dict(counts) for domain, counts in model.op_counts.items()},
        "attention_nodes": attention_nodes(model),
        "inputs": _ports(model.graph.inputs),
        "outputs": _ports(model.graph.outputs),
        "external_data": [
            {
                "file": name,
                "size_bytes": None if why_unsafe(name) else size_of(name),
                "weight_bytes": external_bytes(model, name),
            }
            for name in external_files(model)
        ],
    }


def attention_nodes(model: Model) -> int:
    """Nodes that are an attention as a whole, functions of the file replaced by their bodies."""
    return sum(
        node.op in ATTENTION_OPS.get(node.domain or MAIN_DOMAIN, ())
        for _, graph in model.graphs()
        for node in graph.nodes
    )


def _ports(ports: Iterable[Port]) -> list[Json]:
    return [
        {"name": port.name, "dtype": port.type.dtype, "dims": _dims(port.type.dims)}
        for port in ports
    ]


def _dims(dims: tuple[int | str | None, ...] | None) -> list[Json] | None:
    return None if dims is None else ["?" if dim is None else dim for dim in dims]
