"""Headers of safetensors files: read strictly, written deterministically; no weight is touched.

Format (safetensors README, "Format"; its Rust reader, `Metadata::validate`): an unsigned 64-bit
little-endian length, a JSON object of that many bytes, then one buffer that the tensors fill
without gap or overlap. `data_offsets` count from the start of that buffer. Values are row-major and
little-endian. As in the library, a range need not be aligned to its item size.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import Limits, listed, parse_object, printable
from pipeline.errors import VerificationError
from pipeline.files.regular import open_regular
from pipeline.system.refusals import file_error

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
"""The library's own cap (safetensors, `MAX_HEADER_SIZE`)."""

HEADER_LIMITS = Limits(MAX_HEADER_BYTES, 3 << 20, depth=8)
"""Of a header as JSON; a tensor of three dims takes 9 items. The worst header within these limits
(1.5 million empty entries) takes 560 MB and 3 s until it is refused, measured on a slow core."""

MAX_TENSORS = 1 << 18
"""Of one file. The largest known model has some 160,000 tensors in all of its files together."""

MAX_DIMS = 64
MAX_NAME_CHARACTERS = 1024

_HEADER_DTYPES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "BOOL": ("bool", 1),
        "U8": ("uint8", 1),
        "I8": ("int8", 1),
        "F8_E4M3": ("float8_e4m3fn", 1),
        "F8_E5M2": ("float8_e5m2", 1),
        "F8_E8M0": ("float8_e8m0fnu", 1),
        "U16": ("uint16", 2),
        "I16": ("int16", 2),
        "F16": ("float16", 2),
        "BF16": ("bfloat16", 2),
        "U32": ("uint32", 4),
        "I32": ("int32", 4),
        "F32": ("float32", 4),
        "U64": ("uint64", 8),
        "I64": ("int64", 8),
        "F64": ("float64", 8),
        "C64": ("complex64", 8),
    }
)
"""Spelling in a header -> our dtype, bytes per value. Types under a byte (F4, F6) are not read."""

ITEM_BYTES: Mapping[str, int] = MappingProxyType(dict(_HEADER_DTYPES.values()))
"""Bytes per value by dtype as we spell it (`bfloat16`, not `BF16`)."""

_SPELLINGS = {dtype: spelling for spelling, (dtype, _) in _HEADER_DTYPES.items()}

_KEYS = frozenset({"dtype", "shape", "data_offsets"})


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies: dtype as we spell it, bytes counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int
    num_bytes: int


def read_header(path: Path, file: str | None = None) -> dict[str, TensorInfo]:
    """Tensors of a weight file in the order of their bytes, by name.

    `file` is how messages and `TensorInfo.file` call it (default: the file's own name). Raises
    VerificationError for anything that breaks the format, MachineError where it cannot be read.
    """
    file = path.name if file is None else file
    try:
        with open_regular(path, file) as raw, io.BufferedReader(raw) as stream:
            file_bytes = os.fstat(raw.fileno()).st_size
            num_head_bytes = header_bytes(stream.read(LENGTH_BYTES), file, file_bytes)
            stream.seek(0)
            head = stream.read(num_head_bytes)
    except FileNotFoundError:
        raise VerificationError(f"the weight file `{file}` is missing") from None
    except OSError as error:
        raise file_error(error, file, "cannot be read") from None
    return parse_header(head, file, file_bytes)


def header_bytes(first: bytes, file: str, file_bytes: int) -> int:
    """Size of length and header together, from the first 8 bytes of a file of `file_bytes`."""
    if len(first) < LENGTH_BYTES:
        raise _fault(file, f"it has {file_bytes} bytes, too few for a header")
    (length,) = struct.unpack("<Q", first[:LENGTH_BYTES])
    if length > MAX_HEADER_BYTES:
        raise _fault(file, f"its header claims {length} bytes, more than {MAX_HEADER_BYTES}")
    if length + LENGTH_BYTES > file_bytes:
        raise _fault(file, f"its header claims {length} bytes, but the file has {file_bytes}")
    return LENGTH_BYTES + int(length)


def parse_header(head: bytes, file: str, file_bytes: int) -> dict[str, TensorInfo]:
    """Tensors by name from `head` (the first `8 + header length` bytes of the file).

    `file_bytes` is the size of the whole file, which the ranges must fill exactly. All faulty
    tensors of the file are gathered in one VerificationError.
    """
    num_head_bytes = header_bytes(head, file, file_bytes)
    if len(head) < num_head_bytes:
        raise _fault(file, f"{len(head)} of its {num_head_bytes} header bytes could be read")
    text = head[LENGTH_BYTES:num_head_bytes]
    if not text.startswith(b"{"):
        raise _fault(file, "its header does not begin with `{`")
    document = parse_object(text, f"{file}: header", HEADER_LIMITS)
    faults = _metadata_faults(document.pop("__metadata__", {}))
    if len(document) > MAX_TENSORS:
        raise _fault(file, f"it has {len(document)} tensors, more than {MAX_TENSORS}")
    tensors: list[TensorInfo] = []
    for name, entry in document.items():
        reason = _entry_fault(name, entry)
        if reason is None:
            begin, end = entry["data_offsets"]
            place = (file, num_head_bytes + begin, end - begin)
            dtype, _ = _HEADER_DTYPES[entry["dtype"]]
            tensors.append(TensorInfo(name, dtype, tuple(entry["shape"]), *place))
        else:
            faults.append(f"tensor `{printable(name)}`: {reason}")
    if not faults:
        tensors.sort(key=lambda tensor: (tensor.offset, tensor.num_bytes))
        faults = _layout_faults(tensors, num_head_bytes, file_bytes)
    if faults:
        raise VerificationError(
            f"`{file}` is not a valid safetensors file",
            facts=listed(faults),
            hint="fetch this file again; it may be truncated or damaged",
        )
    return {tensor.name: tensor for tensor in tensors}


def encode_header(
    tensors: Sequence[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Length and JSON header for tensors (name, our dtype, shape) laid out in the given order.

    Equal input gives equal bytes. The header is padded with spaces to a multiple of 8 bytes, as
    the library does, so the first tensor is aligned.
    """
    document: dict[str, Json] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for name, dtype, shape in tensors:
        assert name not in document, name
        end = begin + ITEM_BYTES[dtype] * math.prod(shape)
        entry = {"dtype": _SPELLINGS[dtype], "shape": list(shape), "data_offsets": [begin, end]}
        document[name] = entry
        begin = end
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def name_fault(name: str) -> str | None:
    """Why a tensor or weight file must not be called this; None where it may.

    Names end up in messages, in file headers and (weight files) in paths.
    """
    if not name:
        return "its name is empty"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"its name has {len(name)} characters, more than {MAX_NAME_CHARACTERS}"
    if not name.isprintable():
        return "its name has control or invisible characters"
    if ".." in name or name.startswith("/"):
        return "its name looks like a path out of the folder"
    return None


def _entry_fault(name: str, entry: Json) -> str | None:
    """What is wrong with one tensor by itself; None where nothing is."""
    if not isinstance(entry, dict) or entry.keys() != _KEYS:
        return "its entry is not an object of `dtype`, `shape`, `data_offsets`"
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _HEADER_DTYPES:
        return f"unknown dtype `{printable(str(dtype))}`"
    if not _is_counts(shape) or len(shape) > MAX_DIMS:
        return f"its shape is not a list of at most {MAX_DIMS} sizes"
    if not _is_counts(offsets) or len(offsets) != 2:
        return "its `data_offsets` are not two byte positions"
    begin, end = offsets
    if end < begin:
        return f"its range ends at {end}, before its begin {begin}"
    expected = _HEADER_DTYPES[dtype][1] * math.prod(shape)
    if not expected and math.prod(filter(None, shape)) >= 2**63:
        return f"{dtype} {shape}: its sizes beside 0 overflow, which other readers refuse"
    if end - begin != expected:
        return f"{dtype} {shape} takes {expected} bytes, but its range has {end - begin}"
    return name_fault(name)


def _is_counts(value: Json) -> bool:
    """Whether this is a list of integers that fit 63 bits; `true` is not an integer here."""
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 2**63 for v in value)


def _metadata_faults(metadata: Json) -> list[str]:
    is_text = isinstance(metadata, dict) and all(
        isinstance(text, str) for text in metadata.values()
    )
    return [] if is_text else ["`__metadata__` is not an object of texts"]


def _layout_faults(tensors: Sequence[TensorInfo], begin: int, file_bytes: int) -> list[str]:
    """Gaps and overlaps of tensors sorted by offset, and a last byte that is not the file's."""
    faults = []
    position = begin
    for tensor in tensors:
        if tensor.offset != position:
            kind = "overlaps the tensor before it" if tensor.offset < position else "leaves a gap"
            faults.append(
                f"tensor `{tensor.name}`: its range {kind}: it begins at byte {tensor.offset} of "
                f"the file, expected {position}"
            )
        position = tensor.offset + tensor.num_bytes
    if not faults and position != file_bytes:
        faults.append(f"its tensors end at byte {position}, but the file has {file_bytes} bytes")
    return faults


def _fault(file: str, reason: str) -> VerificationError:
    return VerificationError(
        f"`{file}` is not a valid safetensors file: {reason}",
        hint="fetch this file again; it may be truncated or damaged",
    )
