"""The one validator of file names that come from outside: repos, indexes, folders of others."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from pipeline.checkpoint.strict_json import listed, printable
from pipeline.errors import VerificationError

MAX_PART_BYTES = 255
"""Longest file name of ext4, XFS, APFS and NTFS."""

INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that no name may use: control, format, surrogate, private, unassigned."""


def why_unsafe(name: str) -> str | None:
    """Why a relative POSIX path is refused, or None: it must stay below its folder everywhere."""
    if not name or name.startswith("/"):
        return "is not a relative name"
    if any(unicodedata.category(letter) in INVISIBLE for letter in name):
        return "has control or invisible characters"
    if unicodedata.normalize("NFC", name) != name:
        return "is not in Unicode normal form C"
    if "\\" in name or re.match(r"[A-Za-z]:", name):
        return "is a Windows path"
    return next((reason for part in name.split("/") if (reason := _why_unsafe_part(part))), None)


def check_names(names: Iterable[str], origin: str) -> None:
    """Refuse names that could leave a folder, or that some file systems take for one another.

    Raises VerificationError with every bad name; `origin` says where they come from.
    """
    faults = []
    spellings: defaultdict[str, set[str]] = defaultdict(set)
    for name in sorted(set(names)):
        reason = why_unsafe(name)
        if reason is not None:
            faults.append(f"`{printable(name)}` {reason}")
        spellings[name.casefold()].add(name)
    faults += [
        " and ".join(f"`{printable(name)}`" for name in sorted(same)) + " clash"
        for same in spellings.values()
        if len(same) > 1
    ]
    if faults:
        raise VerificationError(f"{origin} has file names that are refused", facts=listed(faults))


def _why_unsafe_part(part: str) -> str | None:
    if part in {"", ".", ".."}:
        return f"has a part `{part}`"
    if part.startswith("-"):
        return "has a part that starts with `-`"
    if len(part.encode()) > MAX_PART_BYTES:
        return f"has a part of more than {MAX_PART_BYTES} bytes"
    return None
