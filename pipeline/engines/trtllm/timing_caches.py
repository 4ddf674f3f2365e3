"""Timing caches: kernel timings of earlier builds, for the same GPU and versions only.

A file of the store is the builder's cache and the 32 bytes of its BLAKE3, so that a damaged one is
told from a good one and both are replaced at once.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.hardware import Gpu

FOLDER = "timing"
DIGEST_BYTES = 32


def cache_path(cache_dir: Path, gpu: Gpu, versions: Mapping[str, str]) -> Path:
    """Where the timings of a GPU kind, its driver and these versions are kept."""
    parts = [gpu.target, gpu.name, f"driver-{gpu.driver}"]
    parts += [f"{name}-{versions[name]}" for name in sorted(versions)]
    return cache_dir / FOLDER / f"{'_'.join(_plain(part) for part in parts)}.cache"


def take(stored: Path, target: Path) -> bool:
    """Copy the stored timings to `target`; whether there were any. What is damaged is deleted."""
    try:
        # A FIFO, say, would be waited for.
        data = stored.read_bytes() if stored.is_file() else b""
    except OSError:
        return False
    content, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    if not content or _digest(content) != digest:
        with suppress(OSError):  # it is not used, whether it can be deleted or not
            drop(stored)
        return False
    target.write_bytes(content)
    return True


def give_back(source: Path, stored: Path) -> None:
    """Replace the stored timings by those of a finished build, at once or not at all.

    Raises OSError where they cannot be kept.
    """
    content = source.read_bytes()
    stored.parent.mkdir(parents=True, exist_ok=True)
    partial = stored.with_name(f".{stored.name}-{uuid.uuid4().hex[:8]}")
    try:
        partial.write_bytes(content + _digest(content))
        os.replace(partial, stored)  # noqa: PTH105 - the atomic one, by name
    finally:
        partial.unlink(missing_ok=True)


def drop(stored: Path) -> None:
    """Forget timings that cannot be read, whatever is there in their place."""
    if stored.is_dir() and not stored.is_symlink():
        shutil.rmtree(stored)
    else:
        stored.unlink(missing_ok=True)


def _digest(content: bytes) -> bytes:
    from blake3 import blake3

    return blake3(content).digest()


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
