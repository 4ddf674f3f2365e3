"""Entries of the client's cache that are not what belongs there, and how they are taken away.

An entry of a snapshot is a link to a blob (a file, where links do not work). Blobs may be links
themselves, into what several repos share (2.x). Only the entry itself is ever removed: never what
lies outside of the cache, nor what somebody put into a folder.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pipeline.errors import MachineError
from pipeline.sources.copying import hash_file

MAX_LINKS = 8
NUM_SHA1_DIGITS = 40

LOCK_S = 30.0
"""How long the client's lock of a blob is waited for. Whoever holds it for longer is fetching the
blob, and would not if the wrong one were still there."""


def clear_odd(entries: tuple[Path, ...]) -> None:
    """Remove what is neither a file nor a link that leads to one or nowhere.

    The client takes folders, pipes and devices for what it looks for. Raises MachineError where
    such an entry cannot be removed.
    """
    for entry in entries:
        if not _is_odd(entry):
            continue
        try:
            if stat.S_ISDIR(entry.lstat().st_mode):
                entry.rmdir()
            else:
                entry.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise MachineError(
                f"`{entry}` is not a file, and cannot be removed: {error.strerror}",
                hint="the Hugging Face cache needs this place: move away what is there, or set "
                "`HF_HUB_CACHE` to another folder",
            ) from None


def discard(path: Path, cache: Path, lock: Path, is_unchanged: Callable[[], bool]) -> None:
    """Remove a file with wrong content from the cache, so that it is not used again.

    `path` is an entry of a snapshot, `lock` that of its blob. Nothing is removed where it is
    another file by now: files of equal content share a blob, also in other processes, and one of
    them may have fetched it anew. Of a blob that is what its name says (the entry led to the blob
    of another file), and of what is outside of `cache`, the entry alone is removed.
    """
    links = list(_links(path))
    blob = links[-1]
    with _locked(lock):
        if not is_unchanged():
            return
        keeps_blob = len(links) > 1 and _is_what_it_is_called(blob)
        for link in links[:1] if keeps_blob else links:
            if link == path or link.parent.resolve().is_relative_to(cache.resolve()):
                link.unlink(missing_ok=True)


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Keep every client from bringing a blob meanwhile, as far as the file system has locks."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    with ExitStack() as stack:
        with suppress(OSError, Timeout):
            lock.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(WeakFileLock(lock, timeout=LOCK_S))
        yield


def _is_odd(entry: Path) -> bool:
    try:
        return not stat.S_ISREG(entry.stat().st_mode)
    except FileNotFoundError:
        return False  # nothing, or a link to nothing: the client replaces it
    except NotADirectoryError:
        return entry.is_symlink()
    except OSError:  # a circle of links
        return True


def _links(path: Path) -> Iterator[Path]:
    """A path, and what it leads to link by link."""
    for _ in range(MAX_LINKS):
        yield path
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()


def _is_what_it_is_called(blob: Path) -> bool:
    """Blobs are named by SHA-256 or by git's blob id; mirrors have ways of their own."""
    if not blob.is_file():
        return False
    found = hash_file(blob, git_blob=len(blob.name) == NUM_SHA1_DIGITS)
    return blob.name in {found.sha256, found.git_blob}
