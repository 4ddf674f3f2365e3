"""Reading a lock file. It comes from a repo that others write to, so nothing in it is trusted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pipeline.artifact import Json, canonical_json
from pipeline.checkpoint.strict_json import Limits, listed, parse_object, printable
from pipeline.errors import MachineError, RecipeError, VerificationError
from pipeline.files.regular import read_small
from pipeline.lock.document import FORMAT, Lock, lock_path
from pipeline.sources.names import check_names
from pipeline.system.refusals import file_error

MAX_BYTES = 8 << 20
"""A file takes about 200 bytes, so this is for 40,000 of them."""

LIMITS = Limits(MAX_BYTES, items=1 << 18)
"""A file takes five items."""

DAMAGED_HINT = (
    "bring it back from version control, or delete it and run `trtllm-pack lock` on the recipe"
)
CONFLICT_MARK = b"\n<<<<<<< "


@dataclass(frozen=True, slots=True)
class LockFile:
    """A lock that was read: where it lies, its very bytes, and what they say."""

    path: Path
    data: bytes
    lock: Lock


def find_lock(recipe: Path) -> LockFile | None:
    """The lock beside a recipe, or None where there is none.

    Raises VerificationError where it is damaged, of another format, or names what it must not;
    RecipeError where a merge left it for the user to settle; MachineError where it cannot be read.
    """
    path = lock_path(recipe)
    data = _read(path)
    if data is None:
        return None
    return LockFile(path, data, decode(data, path.name))


def decode(data: bytes, name: str) -> Lock:
    """The lock that bytes say; `name` is the file's, for messages. Raises as `find_lock` does."""
    if CONFLICT_MARK in b"\n" + data:
        raise RecipeError(
            f"`{name}` has conflict marks of a merge",
            hint="keep one side of it, then run `trtllm-pack lock` on the recipe",
        )
    try:
        document = parse_object(data, name, LIMITS)
    except VerificationError as error:
        raise VerificationError(error.message, hint=DAMAGED_HINT) from None
    _check_format(document.get("format"), name)
    try:
        lock = Lock.model_validate_json(canonical_json(document))
    except UnicodeEncodeError:
        raise VerificationError(
            f"`{name}` has text that is not Unicode", hint=DAMAGED_HINT
        ) from None
    except ValidationError as error:
        raise VerificationError(
            f"`{name}` is not a valid lock", facts=_faults(error), hint=DAMAGED_HINT
        ) from None
    for source in lock.sources:
        check_names((file.path for file in source.files), f"`{name}`")
    return lock


def _check_format(found: Json, name: str) -> None:
    if type(found) is int and found > FORMAT:
        raise VerificationError(
            f"`{name}` has format {found}; this version of trtllm-pack reads format {FORMAT}",
            hint="use a newer trtllm-pack: one as new as that which wrote the lock",
        )
    if found != FORMAT or type(found) is not int:
        raise VerificationError(
            f"`{name}` is not a lock: it has no `format` that is known", hint=DAMAGED_HINT
        )


def _faults(error: ValidationError) -> list[str]:
    """What pydantic found, by the place in the document; values are not repeated."""
    return listed(
        [
            f"`{printable('.'.join(map(str, fault['loc'])) or 'the document')}`: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
    )


def _read(path: Path) -> bytes | None:
    try:
        return read_small(path, MAX_BYTES, path.name)
    except FileNotFoundError:
        if not path.is_symlink():
            return None
        raise MachineError(
            f"`{path}` is a symbolic link to nothing",
            hint="bring back what it points to, or remove it and run `trtllm-pack lock`",
        ) from None
    except VerificationError as error:
        raise VerificationError(error.message, hint=DAMAGED_HINT) from None
    except OSError as error:
        hint = "a lock is read wherever it is: make it readable for you"
        raise file_error(error, path, "cannot be read", hint) from None
