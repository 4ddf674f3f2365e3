"""Write a file that a command makes: never over one that is there."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import MachineError, UsageError


def write_new(path: Path, text: str) -> None:
    """Write a new file. Raises UsageError where it exists, MachineError where it cannot be."""
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise UsageError(f"`{path}` exists already", hint="choose another name") from None
    except OSError as error:
        raise MachineError(f"`{path}` cannot be written: {error.strerror}") from None
