"""What the operating system refuses, as errors that say what was done, the facts, and what to do.

One table, by `errno` (`meanings`); what reaches us in other ways (MemoryError, a thread that
cannot start, SQLite, libraries written in Rust, the dynamic loader) is led back to it.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path

from pipeline.errors import MachineError, PipelineError, ResourceError
from pipeline.system.meanings import (
    MEANINGS,
    MEMORY,
    NO_CURRENT_FOLDER,
    OF_A_PLACE,
    OTHER,
    SQLITE,
    SQLITE_IOERR_NOMEM,
    TOO_DEEP,
    Meaning,
)

INTACT = "what was finished before is intact"

_RUST = re.compile(r"\(os error (\d+)\)")
_LOADER = {"failed to map segment from shared object": errno.ENOMEM}
"""What the dynamic loader says of a module in C that does not fit (glibc 2.36, `dl-load.c`)."""
_QUOTED = {
    **{
        os.strerror(number): number
        for number in (
            *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
            *(errno.EAGAIN, errno.EROFS, errno.EIO, errno.ESTALE),
        )
    },
    "can't start new thread": errno.EAGAIN,  # CPython 3.11 to 3.14, `_threadmodule.c`
    "std::bad_alloc": errno.ENOMEM,
    "DefaultCPUAllocator: can't allocate memory": errno.ENOMEM,  # torch 2
    "Failed to allocate memory for requested buffer": errno.ENOMEM,  # ONNX Runtime, bfc_arena.cc
}
"""What libraries quote in errors of their own kinds."""


def explain(error: BaseException, doing: str, where: Path | None = None) -> PipelineError | None:
    """The error to show for what the system refused; None for what is no refusal of the system.

    `doing`: who asked, the subject of a sentence, e.g. "stage `build`". `where`: a file or folder
    there, for the facts, if the error itself names none; it need not exist.
    """
    meaning = _meaning(error)
    if meaning is None:
        return None
    path = _path(error)
    if path is None and meaning.facts in OF_A_PLACE:
        path = where
    shown = ": ".join(filter(None, [f"`{path}`" if path else "", _system_text(error)]))
    facts = meaning.facts(path or where)
    if meaning.is_intact:
        facts.append(INTACT)
    message = f"{doing} {meaning.said}" + (f": {shown}" if shown else "")
    return meaning.kind(message, facts=facts, hint=meaning.hint)


def file_error(
    error: OSError, path: Path | str, what: str, hint: str | None = None
) -> PipelineError:
    """The error of one file of the user's: `what` is "cannot be read" or "cannot be written".

    It is the machine's, unless something has run out. Without a hint of the caller's, that of the
    error number is given.
    """
    meaning = _meaning(error)
    told = f"`{path}` {what}: {error.strerror or error}"
    if meaning is not None and meaning.kind is ResourceError:
        return ResourceError(told, facts=[*meaning.facts(Path(path)), INTACT], hint=meaning.hint)
    return MachineError(told, hint=hint or (meaning or OTHER).hint)


def _meaning(error: BaseException) -> Meaning | None:
    if isinstance(error, MemoryError):
        return MEMORY
    if isinstance(error, RecursionError):
        return TOO_DEEP
    if isinstance(error, PipelineError):
        return None
    database = sys.modules.get("sqlite3")
    if database is not None and isinstance(error, database.Error):
        return _database_meaning(getattr(error, "sqlite_errorcode", None))
    number = error_number(error)
    if number == errno.ENOENT and _path(error) is None and _has_no_current_folder():
        return NO_CURRENT_FOLDER
    return None if number is None else MEANINGS.get(number)


def _has_no_current_folder() -> bool:
    """It was removed while this process is in it: what counts from it is not found."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def error_number(error: BaseException) -> int | None:
    """The `errno` behind an error: of an OSError, or of what wraps one in a text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, PipelineError) or not isinstance(error, Exception):
        return None
    text = str(error)
    told = _RUST.search(text)
    if told:
        return int(told[1])
    quoted = {**_QUOTED, **_LOADER} if isinstance(error, (ImportError, OSError)) else _QUOTED
    return next((number for said, number in quoted.items() if said in text), None)


def _database_meaning(code: int | None) -> Meaning | None:
    if code is None:
        return None
    return MEMORY if code == SQLITE_IOERR_NOMEM else SQLITE.get(code & 0xFF)


def _path(error: BaseException) -> Path | None:
    """The file that the error names; of a rename or link, the one that was to be made."""
    if not isinstance(error, OSError):
        return None
    name = error.filename2 or error.filename
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    return Path(name) if isinstance(name, str) else None


def _system_text(error: BaseException) -> str:
    """The system's own words, or those of what wraps them."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (MemoryError, RecursionError)):
        return ""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:200]
