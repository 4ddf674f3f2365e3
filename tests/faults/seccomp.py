"""A filter that stops a process for its tracer at calls which change files, and at no other.

Formats: Linux, `include/uapi/linux/seccomp.h`, `filter.h` and `audit.h`. Stopping at every call
would slow a Python process down many times; so it hardly does.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

from tests.faults.syscalls import CALLS, LOWEST_FILE, FileCall

RET_ALLOW = 0x7FFF0000
RET_TRACE = 0x7FF00000
ARCHITECTURE_X86_64 = 0xC000003E
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
"""Offsets in `struct seccomp_data`."""

LOAD, JUMP_EQUAL, JUMP_GREATER, JUMP_BITS, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, constant."""


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def program(calls: Sequence[FileCall] = CALLS) -> list[Instruction]:
    """The filter: each call's number, then what its arguments must be; all else is let through."""
    lines: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (JUMP_EQUAL, 1, 0, ARCHITECTURE_X86_64),
        (RETURN, 0, 0, RET_ALLOW),
        (LOAD, 0, 0, NUMBER_AT),
    ]
    for call in calls:
        body = _body(call)
        lines += [(JUMP_EQUAL, 0, len(body), call.number), *body]
    return [*lines, (RETURN, 0, 0, RET_ALLOW)]


def _body(call: FileCall) -> list[Instruction]:
    """What follows where the number fits; it always returns, so the number need not be read again.

    Only the lower half of an argument is read: x86_64 is little-endian.
    """
    trace, allow = (RETURN, 0, 0, RET_TRACE), (RETURN, 0, 0, RET_ALLOW)
    if call.flags is not None:
        position, mask = call.flags
        return [_load(position), (JUMP_BITS, 0, 1, mask), trace, allow]
    if call.values is not None:
        position, values = call.values
        tests = [(JUMP_EQUAL, len(values) - n, 0, value) for n, value in enumerate(values)]
        return [_load(position), *tests, allow, trace]
    if call.descriptor is not None:
        return [_load(call.descriptor), (JUMP_GREATER, 0, 1, LOWEST_FILE - 1), trace, allow]
    return [trace]


def _load(position: int) -> Instruction:
    return (LOAD, 0, 0, ARGUMENTS_AT + 8 * position)


def install(calls: Sequence[FileCall] = CALLS) -> None:
    """Filter this process and all that it starts, for good. Without a tracer, the calls fail."""
    lines = program(calls)
    code = b"".join(struct.pack("<HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(code, len(code))
    libc = ctypes.CDLL(None, use_errno=True)
    filtered = _Program(len(lines), ctypes.addressof(buffer))
    for request, first, second in (
        (PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), ctypes.c_ulong(0)),
        (PR_SET_SECCOMP, ctypes.c_ulong(MODE_FILTER), ctypes.byref(filtered)),
    ):
        if libc.prctl(request, first, second, ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
            failed = ctypes.get_errno()
            raise OSError(failed, "the filter of system calls was refused")
