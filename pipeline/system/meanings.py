"""What error numbers of the system mean to a user: kind, words, facts, hint. Rows are data."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import (
    LockedError,
    MachineError,
    PipelineError,
    ResourceError,
    UsageError,
    VerificationError,
)
from pipeline.system.facts import (
    disk_facts,
    file_size_facts,
    memory_facts,
    mount_facts,
    open_file_facts,
    process_facts,
)

Facts = Callable[[Path | None], list[str]]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an error number means: `{who} {said}`, e.g. "stage `build` ran out of disk space"."""

    kind: type[PipelineError]
    said: str
    hint: str
    facts: Facts = lambda _where: []
    is_intact: bool = True


_DISK_FULL = Meaning(
    ResourceError,
    "ran out of disk space",
    "free some space there, or name a folder on a larger disk (`--store`, `--out`, `HF_HOME`)",
    disk_facts,
)
_QUOTA = Meaning(
    ResourceError,
    "is over the disk quota",
    "delete files of this user there (`quota -s`), or name a folder on another disk",
    disk_facts,
)
_TOO_LARGE = Meaning(
    ResourceError,
    "needs a larger file than is allowed",
    "raise the limit (`ulimit -f unlimited`), or name a folder on a file system that takes files "
    "of this size",
    file_size_facts,
)
_OPEN_FILES = Meaning(
    ResourceError,
    "needs more open files than this process may have",
    "raise the limit, e.g. `ulimit -n 4096`, and run again",
    open_file_facts,
)
_OPEN_FILES_OF_ALL = Meaning(
    ResourceError,
    "needs another open file, but this machine has no more to give",
    "end other programs, or have the administrator raise `fs.file-max`",
)
MEMORY = Meaning(
    ResourceError,
    "ran out of memory",
    "use a machine with more memory, or raise the limit (`ulimit -v`, the container's)",
    memory_facts,
)
_PROCESSES = Meaning(
    ResourceError,
    "could not start another process or thread",
    "raise the limit (`ulimit -u`, the container's number of pids), or end other programs",
    process_facts,
)
_REFUSED = Meaning(
    MachineError,
    "was refused by the file system",
    "check owner and permissions, or name another folder (`--store`, `--out`, `HF_HOME`)",
    mount_facts,
)
_READ_ONLY = Meaning(
    MachineError,
    "was refused by a file system that is read-only",
    "name a folder on a disk that can be written; one that was writable before may be failing: see "
    "the kernel's log",
    mount_facts,
)
_FAILING = Meaning(
    MachineError,
    "met a failing disk or file server",
    "see the kernel's log (`dmesg`), mount it again, or name a folder on another disk",
    mount_facts,
    is_intact=False,
)
_GONE = Meaning(
    MachineError,
    "does not find a file",
    "another program may have removed or moved it: see that it is there, and run again",
)
NO_CURRENT_FOLDER = Meaning(
    MachineError,
    "was started in a folder that has been removed since",
    "change to a folder that exists (`cd`), and run again",
)
_PATH = Meaning(UsageError, "cannot use a path", "name another file or folder", is_intact=False)
_BUSY = Meaning(
    LockedError,
    "needs a file that another program is using",
    "end that program (`fuser -v FILE` names it), or wait for it",
)
_IN_THE_WAY = Meaning(
    MachineError,
    "finds a file where it makes one",
    "another program may be writing there: see that none is, and run again",
)
_NOT_OFFERED = Meaning(
    MachineError,
    "needs what this file system or kernel does not offer",
    "name a folder on a local disk (ext4, xfs, btrfs)",
    mount_facts,
)
_CLOSED = Meaning(
    MachineError, "uses a file or stream that is closed", "leave it open", is_intact=False
)

OF_A_PLACE = (disk_facts, file_size_facts, mount_facts)
"""What is short there is short at a place, which a message names."""

MEANINGS: dict[int, Meaning] = {
    errno.ENOSPC: _DISK_FULL,
    errno.EDQUOT: _QUOTA,
    errno.EFBIG: _TOO_LARGE,
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES_OF_ALL,
    errno.ENOMEM: MEMORY,
    errno.ENOBUFS: MEMORY,
    errno.EAGAIN: _PROCESSES,
    errno.EROFS: _READ_ONLY,
    errno.EBADF: _CLOSED,
    **dict.fromkeys((errno.EACCES, errno.EPERM), _REFUSED),
    **dict.fromkeys(
        (
            *(errno.EIO, errno.ESTALE, errno.ENXIO, errno.EREMOTEIO, errno.EUCLEAN, errno.EBADMSG),
            *(errno.ENODEV, errno.ENOMEDIUM, errno.ENOTCONN, errno.ESHUTDOWN, errno.EHOSTDOWN),
            *(errno.EREMCHG, errno.ENOLINK, errno.ECOMM, errno.EPROTO),
        ),
        _FAILING,
    ),
    errno.ENOENT: _GONE,
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR), _PATH),
    **dict.fromkeys((errno.ETXTBSY, errno.EBUSY, errno.EDEADLK), _BUSY),
    **dict.fromkeys((errno.EEXIST, errno.ENOTEMPTY), _IN_THE_WAY),
    **dict.fromkeys(
        (
            *(errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EXDEV),
            *(errno.EMLINK, errno.EOVERFLOW, errno.ENOLCK, errno.ENOTTY),
        ),
        _NOT_OFFERED,
    ),
}

OTHER = Meaning(
    MachineError, "met an error of the system", "see the kernel's log (`dmesg`), and run again"
)
"""Of an error number that has no row."""

TOO_DEEP = Meaning(
    ResourceError,
    "met an input that is nested too deeply",
    "this may be a fault of trtllm-pack: run again with `--debug` and report it",
    lambda _where: [f"the limit: {sys.getrecursionlimit()} calls within each other"],
)
_DATABASE_DAMAGED = Meaning(
    VerificationError,
    "cannot read a database, which is damaged",
    "delete this file (`digests.sqlite` of the store only saves hashing) and run again",
)

# Primary result codes of SQLite, version 3, `sqlite3.h`; extended ones hold them in their low byte.
SQLITE: dict[int, Meaning] = {
    **dict.fromkeys((5, 6, 15), _BUSY),  # BUSY, LOCKED, PROTOCOL
    7: MEMORY,  # NOMEM
    8: _READ_ONLY,  # READONLY
    10: _FAILING,  # IOERR
    **dict.fromkeys((11, 26), _DATABASE_DAMAGED),  # CORRUPT, NOTADB
    13: _DISK_FULL,  # FULL
    **dict.fromkeys((3, 14, 23), _REFUSED),  # PERM, CANTOPEN, AUTH
}
SQLITE_IOERR_NOMEM = 3082
