"""A source checkpoint in a local folder."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.huggingface import CONFIG_NAME, INDEX_NAME, SourceCheckpoint, assemble
from pipeline.checkpoint.safetensors_file import read_header
from pipeline.checkpoint.strict_json import listed, printable
from pipeline.errors import RecipeError, VerificationError
from pipeline.files.regular import open_regular, read_small
from pipeline.progress import Progress
from pipeline.sources.copies import Copies
from pipeline.sources.copying import copy_hashed
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.listing import SourceFile, SourceListing
from pipeline.sources.selection import (
    CHAT_TEMPLATE_FOLDER,
    select_files,
)
from pipeline.system.refusals import file_error

MAX_TEXT_BYTES = 128 << 20
"""No config, tokenizer or index is near this; a larger one is not read into memory."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
MAX_POINTER_BYTES = 1024


@dataclass(frozen=True)
class LocalSource:
    """The needed files of a local folder. Nothing in it is ever changed, moved or linked to."""

    folder: Path
    listing: SourceListing
    memory: DigestMemory

    def hashed(self) -> LocalSource:
        """The same source with every digest known: files that the memory does not know are read.

        Raises MachineError where a file cannot be read.
        """
        try:
            files = tuple(
                replace(file, sha256=file.sha256 or self.memory.digest(self.folder / file.name))
                for file in self.listing.files
            )
        except OSError as error:
            raise file_error(error, error.filename or self.folder, "cannot be read") from None
        return replace(self, listing=replace(self.listing, files=files))

    def checkpoint(self) -> SourceCheckpoint:
        """Config, index and headers. Raises VerificationError where one is not valid."""
        index = self.read_text(INDEX_NAME) if self.listing.find(INDEX_NAME) else None
        headers = {
            name: read_header(self.folder / name, name) for name in self.listing.weight_files
        }
        return assemble(self.read_text(CONFIG_NAME), index, headers)

    def doubt(self) -> None:
        """Nothing: what a plan is made from was read from the files themselves."""

    def read_text(self, name: str) -> bytes:
        """The bytes of a small file of the listing."""
        file = self.listing.find(name)
        assert file is not None, f"`{name}` is not in the listing"
        return _read_text(self.folder / name, name)

    def fetch(self, out_dir: Path, progress: Progress) -> list[Json]:
        """Copy every file into a folder: name, size in bytes and SHA-256 of each, sorted by name.

        Copies that an earlier call finished in this folder stay, all else in it is removed. Raises
        VerificationError where a file is no longer what the listing says, and OSError where the
        copy cannot be written.
        """
        progress.start("copy", self.listing.total_bytes)
        with Copies(out_dir, self.listing) as copies:
            for file in self.listing.files:
                if copies.has(file):
                    progress.skip(file.size_bytes)
                else:
                    self._copy(file, out_dir / file.name, progress)
                    copies.add(file)
        return [
            {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256}
            for file in self.listing.files
        ]

    def _copy(self, file: SourceFile, target: Path, progress: Progress) -> None:
        """Copy one file and compare the copy with the listing."""
        source = self.folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            open_regular(source).close()
        except OSError as error:
            raise file_error(error, source, "cannot be read") from None
        copy = copy_hashed(source, target, progress.advance)
        if copy.size_bytes != file.size_bytes or copy.sha256 != file.sha256:
            self.memory.forget(source)
            raise VerificationError(
                f"`{source}` has changed since the plan was made",
                facts=[
                    f"planned: {file.size_bytes} bytes, SHA-256 `{file.sha256}`",
                    f"found: {copy.size_bytes} bytes, SHA-256 `{copy.sha256}`",
                ],
                hint="run again when nothing writes to this folder",
            )


def open_local(
    where: str, base_dir: Path, memory: DigestMemory, code: Collection[str] = ()
) -> LocalSource:
    """List a local folder. `where` is relative to `base_dir`, the folder of its recipe.

    `code` are the Python files that the recipe allows (`source.remote_code`).

    No weight is read: the SHA-256 of a file that the memory does not know stays None, see
    `LocalSource.hashed`. Raises RecipeError where the folder is not a checkpoint that we read,
    VerificationError where its index or names are wrong, MachineError where it cannot be read.
    """
    folder, memory = _find_folder(where, base_dir), memory.of_others()
    try:
        names = frozenset((*_names(folder), *(name for name in code if (folder / name).exists())))
        index = _read_text(folder / INDEX_NAME, INDEX_NAME) if INDEX_NAME in names else None
        files = [_describe(folder, name) for name in select_files(names, index, code)]
    except OSError as error:
        raise file_error(error, error.filename or folder, "cannot be read") from None
    _refuse_lfs_pointers(folder, files)
    files = [replace(file, sha256=memory.recall(folder / file.name)) for file in files]
    return LocalSource(folder, SourceListing("local", where, None, tuple(files)), memory)


def _find_folder(where: str, base_dir: Path) -> Path:
    folder = base_dir / where
    try:
        folder = base_dir / Path(where).expanduser()
        if folder.is_dir():
            return folder
        state = "is not a folder" if folder.exists() else "does not exist"
    except (OSError, RuntimeError, ValueError) as error:  # too long; `~nobody`; NUL
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        state = f"cannot be looked for: {reason}"
    raise RecipeError(
        f"the source folder `{printable(where, 300)}` {state}",
        facts=[f"looked for `{printable(str(folder), 600)}`"],
        hint="`source.path` is relative to the recipe file that names it",
    )


def _names(folder: Path) -> Iterator[str]:
    """Names that can be needed: at the root, and chat templates. Links to files count as files."""
    for entry in os.scandir(folder):
        yield entry.name
    templates = folder / CHAT_TEMPLATE_FOLDER
    if templates.is_dir():
        for entry in os.scandir(templates):
            yield f"{CHAT_TEMPLATE_FOLDER}/{entry.name}"


def _describe(folder: Path, name: str) -> SourceFile:
    """Size of a file, which must be a regular one or a link to one, as in a hub client's cache."""
    try:
        state = (folder / name).stat()
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ELOOP}:
            raise
        where = "itself" if error.errno == errno.ELOOP else "a file that is not there"
        raise VerificationError(
            f"`{name}` of the source is a link to {where}",
            hint="fetch the checkpoint again, or point `source.path` to a complete one",
        ) from None
    if not stat.S_ISREG(state.st_mode):
        raise VerificationError(f"`{name}` of the source is not a regular file")
    _refuse_secrets(folder, name)
    return SourceFile(name, state.st_size)


def _refuse_secrets(folder: Path, name: str) -> None:
    """A link must not carry a file of this machine into a release: `LICENSE` can be any text.

    Weights may lie anywhere: what is no weight file is refused as one. In a hub client's cache
    (`models--x--y/snapshots/commit`), links lead to `blobs` of the repo or of the whole cache.
    """
    if name.endswith(".safetensors"):
        return
    here, real = folder.resolve(), (folder / name).resolve()
    allowed = [here]
    if here.parent.name == "snapshots":
        repo = here.parent.parent
        allowed += [repo, repo.parent / "blobs"]
    if not any(real.is_relative_to(place) for place in allowed):
        raise VerificationError(
            f"`{name}` of the source is a link to a file outside of its folder",
            facts=[f"it leads to `{real}`"],
            hint="copy that file into the source folder if it belongs there; weight files alone "
            "may be links to other folders",
        )


def _read_text(path: Path, name: str) -> bytes:
    try:
        return read_small(path, MAX_TEXT_BYTES, name)
    except OSError as error:
        raise file_error(error, path, "cannot be read") from None


def _refuse_lfs_pointers(folder: Path, files: list[SourceFile]) -> None:
    """A clone without git-lfs holds a short text in place of each large file."""
    pointers = [
        f"`{file.name}`"
        for file in files
        if len(LFS_POINTER) < file.size_bytes <= MAX_POINTER_BYTES
        and _read_text(folder / file.name, file.name).startswith(LFS_POINTER)
    ]
    if pointers:
        raise VerificationError(
            f"{len(pointers)} files of the source are Git LFS pointers, not the files themselves",
            facts=listed(pointers),
            hint="run `git lfs pull` in the source folder",
        )
