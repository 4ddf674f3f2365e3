"""Puts published files elsewhere: by links where possible, else by copies that share blocks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipeline.files.digests import carry_digest
from pipeline.files.durable import set_mode

COPY_BYTES = 32 << 20


def place(source: Path, target: Path) -> None:
    """Make `target` the same bytes as `source`: a hard link where possible, else a copy.

    Published files are read-only, so a shared inode is not a way to change the store. A copy shares
    its blocks where the file system can do that. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        _copy(source, target)
    else:
        carry_digest(source, target)


def _copy(source: Path, target: Path) -> None:
    """A copy with the original's mode; half of one is removed."""
    try:
        with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
            while copy_in_kernel(reader.fileno(), writer.fileno(), COPY_BYTES):
                pass
            # At the end this finds nothing; where the kernel cannot copy, it does all the work.
            shutil.copyfileobj(reader, writer, COPY_BYTES)
            set_mode(writer.fileno(), os.fstat(reader.fileno()).st_mode & 0o777)
    except FileExistsError:
        raise
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def copy_in_kernel(reader: int, writer: int, most_bytes: int) -> int:
    """Bytes copied by the kernel: 0 at the end, and where it refuses (other file systems)."""
    try:
        return os.copy_file_range(reader, writer, most_bytes)
    except (OSError, AttributeError):
        # A real fault (a full disk, say) shows again in the plain copy, with the same message.
        return 0
