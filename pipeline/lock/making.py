"""Making a lock: every source of a recipe listed, every file known by its SHA-256, tools noted."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.artifact import canonical_json
from pipeline.errors import MachineError, ResourceError, UsageError
from pipeline.files.durable import write_atomic
from pipeline.installed import installed
from pipeline.lock.asked import asked_of, pin_of
from pipeline.lock.document import FORMAT, Lock, LockedFile, LockedSource, encode
from pipeline.lock.reading import LockFile
from pipeline.lock.tools import installed_build_tools, merged, merged_build_tools, stage_tools
from pipeline.progress import no_note
from pipeline.recipe.load import LoadedRecipe
from pipeline.sources import AnySource, SourceFile, open_source
from pipeline.sources.digest_memory import DigestMemory

TOLD_BYTES = 1 << 30
"""Hashing more than this of a folder takes seconds to minutes, so it is told."""


def make_lock(
    recipes: Sequence[LoadedRecipe],
    old: LockFile | None,
    memory: DigestMemory,
    *,
    update_sources: bool = False,
    update_tools: bool = False,
    offline: bool = False,
    note: Callable[[str], None] = no_note,
) -> Lock:
    """The lock of a recipe and its variants. No weight of a hub is fetched; small files are.

    What was locked and is still asked for stays: its commit, its tools. With `update_sources`,
    branches and tags are resolved anew; with `update_tools`, the installed tools are taken. The
    files of a folder are always those that are there; `note` is told where hashing them takes long,
    and where a site is asked once more.
    Raises what opening a source raises.
    """
    by_asked = {canonical_json(asked_of(loaded)): loaded for loaded in reversed(recipes)}
    kept = None if update_sources else old
    sources = [_lock_source(by_asked[key], kept, memory, offline, note) for key in sorted(by_asked)]
    names, backends = wanted_tools(recipes), wanted_backends(recipes)
    tools = {} if old is None else old.lock.tools
    build_tools = {} if old is None else old.lock.build_tools
    return Lock(
        format=FORMAT,
        sources=tuple(sources),
        tools=merged(names, tools, installed(names), update=update_tools),
        build_tools=merged_build_tools(
            backends, build_tools, installed_build_tools(backends), update=update_tools
        ),
    )


def wanted_tools(recipes: Sequence[LoadedRecipe]) -> set[str]:
    """The packages that some stage of a recipe or a variant works with."""
    return {
        name for each in recipes for names in stage_tools(each.recipe).values() for name in names
    }


def wanted_backends(recipes: Sequence[LoadedRecipe]) -> set[str]:
    """The engine backends of a recipe and its variants."""
    return {each.recipe.engine.backend for each in recipes if each.recipe.package.kind == "engine"}


def _lock_source(
    loaded: LoadedRecipe,
    old: LockFile | None,
    memory: DigestMemory,
    offline: bool,
    note: Callable[[str], None],
) -> LockedSource:
    """List one source, where it was locked at that commit; digests of all of its files."""
    asked = asked_of(loaded)
    before = None if old is None else old.lock.find(asked)
    pin = None
    if before is not None and old is not None and before.commit is not None:
        pin = pin_of(before, old.path.name, is_frozen=False)
    source = open_source(
        loaded.recipe.source, loaded.base_dir, memory, offline=offline, pin=pin, note=note
    )
    if source.listing.kind == "local":
        unread = sum(file.size_bytes for file in source.listing.files if file.sha256 is None)
        if unread > TOLD_BYTES:
            note(f"reading {unread:,} bytes of `{source.listing.where}` for their SHA-256")
        source = source.hashed()
    return LockedSource(
        asked=asked,
        kind=source.listing.kind,
        commit=source.listing.commit,
        files=tuple(_lock_file(source, file) for file in source.listing.files),
    )


def _lock_file(source: AnySource, file: SourceFile) -> LockedFile:
    """A file whose SHA-256 nobody publishes is fetched, compared with what is, and hashed."""
    sha256 = file.sha256 or hashlib.sha256(source.read_text(file.name)).hexdigest()
    return LockedFile(
        path=file.name, size_bytes=file.size_bytes, sha256=sha256, git_blob=file.git_blob
    )


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock whole or not at all; the one before stays until then.

    Nothing is written through a link: what it points to may be anybody's. Raises UsageError there,
    MachineError or ResourceError where the file cannot be written.
    """
    if path.is_symlink():
        raise UsageError(
            f"`{path}` is a symbolic link, which a lock is not written through",
            hint="remove the link and run `trtllm-pack lock` again",
        )
    try:
        write_atomic(path, encode(lock))
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise (ResourceError if full else MachineError)(
            f"`{path}` cannot be written: {error.strerror}",
            hint="a lock stands beside its recipe: free some space there"
            if full
            else "a lock stands beside its recipe: make that folder writable for you",
        ) from None
