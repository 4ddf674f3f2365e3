"""Reads an ONNX file into plain values, whoever wrote it; external data is never opened."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.checkpoint.strict_json import printable
from pipeline.errors import VerificationError
from pipeline.onnx_files.model import Model
from pipeline.onnx_files.wire import Buffer, Malformed, without_values

MAX_FILE_BYTES = (1 << 31) - 1
"""Protocol buffers' limit; larger models need external data."""

MAX_NODES = 300_000
"""After functions are replaced by their bodies: more than any model has. So many take 300 MB."""

MAX_CALLS = 100
"""Functions within functions; protocol buffers allow no deeper nesting either."""

_DAMAGED = "fetch or export this file again; it may be truncated or damaged"


def read_model(path: Path) -> Model:
    """Read a file. Raises VerificationError where it is no whole ONNX model, OSError."""
    size_bytes = path.stat().st_size
    if size_bytes > MAX_FILE_BYTES:
        raise VerificationError(
            f"`{path}` has {size_bytes:,} bytes, but an ONNX file has at most {MAX_FILE_BYTES:,}",
            hint="export it again with its weights as external data",
        )
    if size_bytes == 0:
        raise _not_onnx(str(path), "it is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return parse_model(mapped, str(path))


def parse_model(data: Buffer, file: str) -> Model:
    """The model of a file's bytes; `file` is for messages. Raises VerificationError."""
    import onnx
    from google.protobuf.message import DecodeError

    from pipeline.onnx_files.protos import model_of

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(without_values(data))
        if not proto.HasField("graph") or not proto.ir_version or not proto.opset_import:
            raise _not_onnx(file, "it has no graph, no IR version or no opset")
        return model_of(proto, _with_types(_without_functions(proto, file)))
    except (Malformed, DecodeError) as error:
        raise _not_onnx(file, printable(str(error))) from None
    except UnicodeDecodeError as error:
        raise _not_onnx(file, f"a name is not UTF-8 ({error.reason})") from None


def _not_onnx(file: str, reason: str) -> VerificationError:
    return VerificationError(f"`{file}` is not a whole ONNX model: {reason}", hint=_DAMAGED)


def _with_types(proto: Any) -> Any:
    """The model with types of the values between its nodes, as far as onnx can infer them."""
    from onnx import shape_inference

    from pipeline.onnx_files.steps import has_long_steps

    try:
        return shape_inference.infer_shapes(proto, data_prop=not has_long_steps(proto))
    except (shape_inference.InferenceError, RuntimeError, ValueError):
        # A file that contradicts itself, or an operator of which onnx knows nothing: what the
        # file states by itself is read all the same, and unknown types are told as unknown.
        return proto


def _without_functions(proto: Any, file: str) -> Any:
    """The model with its own functions replaced by their bodies, as every runtime reads them."""
    from onnx import checker, inliner

    from pipeline.onnx_files.protos import nodes_of

    if not proto.functions:
        return proto
    bodies = {(f.domain, f.name): tuple(nodes_of(f.node)) for f in proto.functions}
    num_nodes = _expanded(tuple(nodes_of(proto.graph.node)), bodies, {}, MAX_CALLS)
    if num_nodes > MAX_NODES:
        raise _not_onnx(file, f"its functions stand for more than {MAX_NODES:,} nodes")
    try:
        return inliner.inline_local_functions(proto)
    except (checker.ValidationError, RuntimeError, ValueError) as error:
        reason = printable(str(error).partition("\n")[0])
        raise _not_onnx(file, f"its functions cannot be resolved: {reason}") from None


def _expanded(
    nodes: tuple[Any, ...],
    bodies: Mapping[tuple[str, str], tuple[Any, ...]],
    known: dict[tuple[str, str], int],
    calls_left: int,
) -> int:
    """Nodes after all calls are replaced; more than any limit where functions call themselves."""
    total = 0
    for node in nodes:
        key = (node.domain, node.op_type)
        if key in bodies and key not in known:
            if calls_left == 0:
                return MAX_NODES + 1
            known[key] = _expanded(bodies[key], bodies, known, calls_left - 1)
        total += known.get(key, 1)
    return total
