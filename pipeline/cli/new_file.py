"""Write a file that a command makes: never over one that is there."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import UsageError
from pipeline.system.refusals import file_error


def write_new(path: Path, text: str) -> None:
    """Write a new file, whole or not at all.

    Raises UsageError where it exists, MachineError or ResourceError where it cannot be written.
    """
    is_made = False
    try:
        with path.open("x", encoding="utf-8") as stream:
            is_made = True
            stream.write(text)
        is_made = False
    except FileExistsError:
        raise UsageError(f"`{path}` exists already", hint="choose another name") from None
    except OSError as error:
        hint = "name a file in another folder"
        raise file_error(error, path, "cannot be written", hint) from None
    finally:
        if is_made:
            path.unlink(missing_ok=True)
