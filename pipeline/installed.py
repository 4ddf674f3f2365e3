"""Which packages are installed, in which versions: what artifacts and locks say of their tools."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from pipeline import __version__
from pipeline.errors import MachineError

OURS = "trtllm-pack"

VERSION = r"[A-Za-z0-9][A-Za-z0-9.+!_-]{0,99}"
"""More than any that a package index takes (PEP 440)."""


def installed(names: Iterable[str]) -> dict[str, str]:
    """Versions of the packages that are installed, by distribution name.

    Raises MachineError where a package does not say its version.
    """
    found = {}
    for name in sorted(set(names)):
        try:
            found[name] = __version__ if name == OURS else readable(name, version(name))
        except PackageNotFoundError:
            continue
    return found


def readable(name: str, found: str | None) -> str:
    """The version of a package, whose metadata may be damaged: then it has none, or any text."""
    if found is None or re.fullmatch(VERSION, found) is None:
        raise MachineError(
            f"the installed package `{name}` does not say its version",
            hint=f"install it again: `pip install --force-reinstall {name}`",
        )
    return found
