"""The system calls that change files, as data: numbers for x86_64, and which arguments say what.

Source of the numbers: Linux, `arch/x86/entry/syscalls/syscall_64.tbl`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
"""Any of these flags makes an `open` a call that changes files, or is about to."""
FICLONE, FICLONERANGE = 0x40049409, 0x4020940D
LOWEST_FILE = 3
"""File descriptors below are standard input, output and error."""


@dataclass(frozen=True, slots=True)
class FileCall:
    """One system call that changes files.

    `paths` are positions of path arguments, each with the position of the folder descriptor that it
    is relative to (None: the working folder); `descriptor` is the position of the file descriptor
    that is changed; `length` that of a number of bytes which may be made smaller. `flags` is a
    position and a mask: without any of these bits the call changes nothing. `values` is a position
    and the only values that do.
    """

    number: int
    name: str
    kind: str
    paths: tuple[tuple[int | None, int], ...] = ()
    descriptor: int | None = None
    length: int | None = None
    flags: tuple[int, int] | None = None
    values: tuple[int, tuple[int, ...]] | None = None


CALLS = (
    FileCall(2, "open", "open", paths=((None, 0),), flags=(1, WRITES)),
    FileCall(85, "creat", "open", paths=((None, 0),)),
    FileCall(257, "openat", "open", paths=((0, 1),), flags=(2, WRITES)),
    FileCall(437, "openat2", "open", paths=((0, 1),)),
    FileCall(1, "write", "write", descriptor=0, length=2),
    FileCall(18, "pwrite64", "write", descriptor=0, length=2),
    FileCall(20, "writev", "write", descriptor=0),
    FileCall(296, "pwritev", "write", descriptor=0),
    FileCall(328, "pwritev2", "write", descriptor=0),
    FileCall(40, "sendfile", "write", descriptor=0, length=3),
    FileCall(326, "copy_file_range", "write", descriptor=2, length=4),
    FileCall(16, "ioctl", "clone", descriptor=0, values=(1, (FICLONE, FICLONERANGE))),
    FileCall(76, "truncate", "truncate", paths=((None, 0),)),
    FileCall(77, "ftruncate", "truncate", descriptor=0),
    FileCall(285, "fallocate", "truncate", descriptor=0),
    FileCall(82, "rename", "rename", paths=((None, 0), (None, 1))),
    FileCall(264, "renameat", "rename", paths=((0, 1), (2, 3))),
    FileCall(316, "renameat2", "rename", paths=((0, 1), (2, 3))),
    FileCall(86, "link", "link", paths=((None, 0), (None, 1))),
    FileCall(265, "linkat", "link", paths=((0, 1), (2, 3))),
    FileCall(88, "symlink", "link", paths=((None, 1),)),
    FileCall(266, "symlinkat", "link", paths=((1, 2),)),
    FileCall(87, "unlink", "unlink", paths=((None, 0),)),
    FileCall(263, "unlinkat", "unlink", paths=((0, 1),)),
    FileCall(84, "rmdir", "unlink", paths=((None, 0),)),
    FileCall(83, "mkdir", "mkdir", paths=((None, 0),)),
    FileCall(258, "mkdirat", "mkdir", paths=((0, 1),)),
    FileCall(90, "chmod", "mode", paths=((None, 0),)),
    FileCall(91, "fchmod", "mode", descriptor=0),
    FileCall(268, "fchmodat", "mode", paths=((0, 1),)),
    FileCall(452, "fchmodat2", "mode", paths=((0, 1),)),
    FileCall(280, "utimensat", "mode", paths=((0, 1),)),
    FileCall(74, "fsync", "sync", descriptor=0),
    FileCall(75, "fdatasync", "sync", descriptor=0),
    FileCall(73, "flock", "lock", descriptor=0),
)

BY_NUMBER = {call.number: call for call in CALLS}
BY_NAME = {call.name: call for call in CALLS}
KINDS = frozenset(call.kind for call in CALLS)
