"""ptrace(2) by ctypes: the few requests that the tracer makes, for x86_64.

Formats: Linux, `include/uapi/linux/ptrace.h` and `arch/x86/include/asm/user_64.h`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
from dataclasses import dataclass

CONT = 7
SYSCALL = 24
POKEUSER = 6
SEIZE = 0x4206
LISTEN = 0x4208
GET_SYSCALL_INFO = 0x420E

O_TRACESYSGOOD = 0x1
O_TRACEFORK = 0x2
O_TRACEVFORK = 0x4
O_TRACECLONE = 0x8
O_TRACEEXEC = 0x10
O_TRACESECCOMP = 0x80
O_EXITKILL = 0x100000
OPTIONS = (
    O_TRACESYSGOOD
    | O_TRACEFORK
    | O_TRACEVFORK
    | O_TRACECLONE
    | O_TRACEEXEC
    | O_TRACESECCOMP
    | O_EXITKILL
)

EVENT_SECCOMP = 7
EVENT_STOP = 128
WALL = 0x40000000

REGISTERS = {"rdi": 14, "rsi": 13, "rdx": 12, "r10": 7, "r8": 9, "r9": 8, "rax": 10, "orig_rax": 15}
"""Position of each register in `struct user_regs_struct`, in words of 8 bytes."""
ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
"""Registers of the arguments of a system call, in order."""

HEADER_BYTES = 24
"""What precedes in `struct ptrace_syscall_info`: what it is, architecture, instruction, stack."""


class Gone(Exception):
    """The process died meanwhile."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A system call about to be carried out: its number and its six arguments."""

    number: int
    arguments: tuple[int, ...]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def why_not() -> str | None:
    """Why processes cannot be traced here, or None where they can; tries it on a child."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"the tracer knows Linux on x86_64, not {platform.system()} on {platform.machine()}"
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGSTOP)  # until it is killed
        os._exit(0)
    try:
        os.waitpid(child, os.WUNTRACED)
        _request(SEIZE, child, 0, OPTIONS)
    except PermissionError as error:
        return f"ptrace is not permitted here: {error.strerror}"
    except Gone:
        return "ptrace is not permitted here: the traced process was killed"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, WALL)
    return None


def seize(pid: int) -> None:
    """Trace a process that is not stopped, and all that it starts, threads included."""
    _request(SEIZE, pid, 0, OPTIONS)


def resume(pid: int, with_signal: int = 0, *, to_exit: bool = False) -> None:
    """Let a stopped one go on, with a signal; `to_exit`: it stops again as its call returns."""
    _request(SYSCALL if to_exit else CONT, pid, 0, with_signal)


def listen(pid: int) -> None:
    """Leave one stopped that a signal stopped, until another signal wakes it."""
    _request(LISTEN, pid, 0, 0)


def entry(pid: int) -> Entry:
    """The call at which a filter stopped a process."""
    values = _call_info(pid)
    return Entry(values[0], values[1:])


def result(pid: int) -> int:
    """What the call returned at whose exit a process is stopped: negative errno for an error."""
    return ctypes.c_long(_call_info(pid)[0]).value


def refuse(pid: int, number: int) -> None:
    """Let the call at which a filter stopped a process fail, without being carried out."""
    _poke(pid, "orig_rax", -1)
    _poke(pid, "rax", -number)


def set_argument(pid: int, position: int, value: int) -> None:
    """Change an argument of the call at which a filter stopped a process."""
    _poke(pid, ARGUMENTS[position], value)


def read_text(pid: int, address: int, limit: int = 4096) -> str:
    """A zero-terminated path in the memory of a stopped process."""
    if address == 0:
        return ""
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    except FileNotFoundError:
        raise Gone from None
    try:
        page_end = 4096 - address % 4096
        data = os.pread(memory, min(limit, page_end), address)
        if b"\0" not in data:
            data += os.pread(memory, limit - len(data), address + len(data))
    except OSError:
        return ""
    finally:
        os.close(memory)
    return os.fsdecode(data.partition(b"\0")[0])


def _call_info(pid: int) -> tuple[int, ...]:
    """The seven words that end `struct ptrace_syscall_info`."""
    buffer = ctypes.create_string_buffer(96)
    _request(GET_SYSCALL_INFO, pid, len(buffer), ctypes.addressof(buffer))
    return struct.unpack_from("<7Q", buffer, HEADER_BYTES)


def _poke(pid: int, register: str, value: int) -> None:
    _request(POKEUSER, pid, 8 * REGISTERS[register], value)


def _request(request: int, pid: int, address: int, data: int) -> None:
    ctypes.set_errno(0)
    if _libc.ptrace(request, pid, address, data) == -1:
        failed = ctypes.get_errno()
        if failed == errno.ESRCH:
            raise Gone
        raise OSError(failed, os.strerror(failed))
