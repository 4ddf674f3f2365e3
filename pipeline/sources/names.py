"""The one validator of file names that come from outside: repos, indexes, folders of others."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from pipeline.checkpoint.strict_json import listed, printable
from pipeline.errors import VerificationError

MAX_PART_BYTES = 255
"""Longest file name of ext4, XFS, APFS and NTFS."""

INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that no name may use: control, format, surrogate, private, unassigned."""

MAX_NAME_BYTES = 1024
"""Of a whole name: a store's own folders come before it, and Linux opens paths up to 4096 bytes."""

NOT_ON_WINDOWS = frozenset('<>:"|?*')

_DEVICE = re.compile(
    r"(con|prn|aux|nul|(com|lpt)[0-9\u00b9\u00b2\u00b3])(\..*)?", re.IGNORECASE | re.DOTALL
)
"""Names that Windows takes for devices in every folder, whatever their suffix (its documentation,
"Naming Files, Paths, and Namespaces")."""


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
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"has more than {MAX_NAME_BYTES} bytes"
    return next((reason for part in name.split("/") if (reason := _why_unsafe_part(part))), None)


def check_names(names: Iterable[str], origin: str, folders: Iterable[str] = ()) -> None:
    """Refuse names that could leave a folder, or that some file systems take for one another.

    `names` are of files; `folders` of the folders that are listed beside them, if any. Raises
    VerificationError with every bad name; `origin` says where they come from.
    """
    files, listed_folders = set(names), set(folders)
    faults = []
    spellings: defaultdict[str, set[str]] = defaultdict(set)
    above: dict[str, str] = {_folded(name): f"{name}/" for name in listed_folders}
    for name in sorted(files | listed_folders):
        reason = why_unsafe(name)
        if reason is not None:
            faults.append(f"`{printable(name)}` {reason}")
        spellings[_folded(name)].add(name)
        above |= {_folded(str(folder)): name for folder in PurePosixPath(name).parents}
    faults += [
        " and ".join(f"`{printable(name)}`" for name in sorted(same)) + " clash"
        for same in spellings.values()
        if len(same) > 1
    ]
    faults += [
        f"`{printable(name)}` and `{printable(above[_folded(name)])}` clash: a file and a folder"
        for name in sorted(files)
        if _folded(name) in above
    ]
    if faults:
        raise VerificationError(f"{origin} has file names that are refused", facts=listed(faults))


def _folded(name: str) -> str:
    """Equal for names that a file system, or a reader, could take for one another."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _why_unsafe_part(part: str) -> str | None:
    if unicodedata.normalize("NFKC", part) in {"", ".", ".."}:
        return f"has a part `{part}`"
    if part[0] == " " or part[-1] in " .":
        return "has a part with a space at an end, or a dot at its end"
    if not NOT_ON_WINDOWS.isdisjoint(part) or _DEVICE.fullmatch(part):
        return "is no file name on Windows"
    if part.startswith("-"):
        return "has a part that starts with `-`"
    if len(part.encode()) > MAX_PART_BYTES:
        return f"has a part of more than {MAX_PART_BYTES} bytes"
    return None
