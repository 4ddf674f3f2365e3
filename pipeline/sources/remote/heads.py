"""Headers of weight files before those are fetched: how long they may be; from files at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pipeline.checkpoint.safetensors_file import LENGTH_BYTES, header_bytes, parse_header
from pipeline.errors import VerificationError
from pipeline.sources.listing import SourceFile

ENTRY_BYTES, HEAD_BYTES = 128, 1024
"""A tensor's entry in a header without its name (`{"dtype":"BF16","shape":[...],...}`: 60 to 110
bytes), and what stands around the entries."""


def guess_head_bytes(weight_map: Mapping[str, str]) -> dict[str, int]:
    """About how many bytes the header of each weight file has, by what an index says of it."""
    sizes: Counter[str] = Counter()
    for tensor, file in weight_map.items():
        sizes[file] += len(tensor) + ENTRY_BYTES
    return {file: size + HEAD_BYTES for file, size in sizes.items()}


def read_head(path: Path, file: SourceFile) -> bytes | None:
    """Length and header of a file that is not verified; None where that is no header."""
    with path.open("rb") as stream:
        head = stream.read(LENGTH_BYTES)
        try:
            head += stream.read(header_bytes(head, file.name, file.size_bytes) - len(head))
            parse_header(head, file.name, file.size_bytes)
        except VerificationError:
            return None
    return head
