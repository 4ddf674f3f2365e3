"""Digests of rank files that do not depend on how a file is laid out."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable
from pathlib import Path

from pipeline.checkpoint.safetensors_file import read_header

BUFFERS = (
    "*.alibi_slopes",
    "*.logn_scaling",
    "*embed_positions*",
    "*rotary_inv_freq*",
    "long_rope_*",
    "short_rope*",
)
"""What TensorRT-LLM also writes although its classes work it out from the config by themselves."""


def rank_digest(path: Path, left_out: Iterable[str] = ()) -> str:
    """SHA-256 over names, dtypes, shapes and values, less the tensors of some patterns."""
    skipped = (*BUFFERS, *left_out)
    data = path.read_bytes()
    digest = hashlib.sha256()
    for name, info in sorted(read_header(path).items()):
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in skipped):
            digest.update(f"{name} {info.dtype} {list(info.shape)}\n".encode())
            digest.update(data[info.offset : info.offset + info.num_bytes])
    return digest.hexdigest()
