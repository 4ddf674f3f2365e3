"""An ONNX file's bytes less its large tensors, so that a file of 2 GB is read like a small one.

Format: protocol buffers encoding (protobuf.dev, "Encoding"), messages of `onnx.proto` (ONNX 1.23).
Only messages that are large enough to hold a large tensor are looked into; the rest is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap

Buffer = bytes | mmap
"""What is read by position; slices of both are bytes."""

LARGE_BYTES = 1 << 14
"""Tensors up to this size are kept: shapes, axes and scales, which other values depend on."""

MAX_DEPTH = 100
"""Protocol buffers' own limit on nesting."""

_MESSAGES: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
"""Message -> field number -> the message that this field holds, where that can hold a tensor."""

_VALUES = frozenset({4, 5, 6, 7, 9, 10, 11})
"""Fields of TensorProto with its values: `float_data` to `uint64_data`, `raw_data`."""

_FIXED_BYTES = {1: 8, 5: 4}
"""Wire type -> bytes of its value."""

_VARINT, _BYTES = 0, 2


class Malformed(ValueError):
    """Where bytes are no protocol buffers message, and why."""


def without_values(data: Buffer) -> bytes:
    """The bytes of a ModelProto whose tensors above `LARGE_BYTES` have lost their values.

    Raises Malformed with the place and the reason.
    """
    return _lean(data, 0, len(data), "ModelProto", 0)


def _lean(data: Buffer, begin: int, end: int, message: str, depth: int) -> bytes:
    if end - begin <= LARGE_BYTES:
        return data[begin:end]
    if depth > MAX_DEPTH:
        raise Malformed(f"messages are nested more than {MAX_DEPTH} deep at byte {begin}")
    parts: list[bytes] = []
    for number, start, value, stop in _fields(data, begin, end):
        inner = _MESSAGES[message].get(number)
        if message == "TensorProto" and number in _VALUES:
            continue
        if inner is None or value is None or stop - value <= LARGE_BYTES:
            parts.append(data[start:stop])
        else:
            lean = _lean(data, value, stop, inner, depth + 1)
            parts += [_varint(number << 3 | _BYTES), _varint(len(lean)), lean]
    return b"".join(parts)


def _fields(data: Buffer, begin: int, end: int) -> Iterator[tuple[int, int, int | None, int]]:
    """Of each field: its number, where it starts, where its bytes start (if it has), its end."""
    at = begin
    while at < end:
        start = at
        key, at = _read_varint(data, at, end)
        number, wire_type = key >> 3, key & 7
        value: int | None = None
        if wire_type == _VARINT:
            _, at = _read_varint(data, at, end)
        elif wire_type in _FIXED_BYTES:
            at += _FIXED_BYTES[wire_type]
        elif wire_type == _BYTES:
            size, value = _read_varint(data, at, end)
            at = value + size
        else:
            raise Malformed(f"byte {start} has the wire type {wire_type}, which ONNX does not use")
        if at > end:
            raise Malformed(f"the field at byte {start} ends at {at}, but there are {end} bytes")
        yield number, start, value, at


def _read_varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise Malformed(f"it ends within a number, at byte {at}")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise Malformed(f"the number before byte {at} has more than 10 bytes")


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
