"""What a lock file holds a source to: a commit, and every needed file with size and digests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import listed, printable
from pipeline.errors import PipelineError, VerificationError
from pipeline.sources.listing import SourceFile, SourceListing


@dataclass(frozen=True, slots=True)
class Pin:
    """A source as it was locked. Every file has its SHA-256; `commit` is None for a folder.

    `origin` is the name of the lock file. Where `is_frozen` is false, only the commit counts: the
    source is opened there, and nothing is compared.
    """

    origin: str
    kind: str
    commit: str | None
    files: tuple[SourceFile, ...]
    is_frozen: bool

    def differences(self, listing: SourceListing) -> list[str]:
        """How a listing differs, a line for each difference; digests as far as both know them."""
        lines = []
        if listing.kind != self.kind:
            lines.append(f"kind of source: locked `{self.kind}`, found `{listing.kind}`")
        if listing.commit != self.commit:
            lines.append(f"commit: locked `{self.commit}`, found `{listing.commit}`")
        return lines + self._file_lines(listing.files)

    def check(self, listing: SourceListing) -> None:
        """Raise VerificationError with every difference of a listing, where the pin is frozen.

        A local source is to be hashed before, so that nothing is passed by.
        """
        self._refuse(listing.where, self.differences(listing))

    def check_fetched(self, where: str, records: Sequence[Mapping[str, Json]]) -> None:
        """Hold fetched files (`name`, `size_bytes`, `sha256`) against the lock, where frozen.

        This is also for files of which the hub publishes git's blob id alone. Raises
        VerificationError with every difference.
        """
        found = [SourceFile(each["name"], each["size_bytes"], each["sha256"]) for each in records]
        self._refuse(where, self._file_lines(found))

    def explain(self, error: PipelineError, folder: Path | None) -> PipelineError:
        """The same error, told what the lock has to do with it.

        `folder` is that of a local source, which may be no valid checkpoint any more because it is
        not the one that was locked.
        """
        if folder is None:
            fact = f"`{self.origin}` names this commit"
            return type(error)(error.message, hint=error.hint, facts=[*error.facts, fact])
        lines = list(self._missing(folder)) if self.is_frozen else []
        if not lines:
            return error
        return self._refusal(str(folder), [*lines, error.message, *error.facts])

    def _file_lines(self, files: Iterable[SourceFile]) -> list[str]:
        found = {file.name: file for file in files}
        locked = {file.name: file for file in self.files}
        names = sorted(found.keys() | locked.keys())
        pairs = ((name, locked.get(name), found.get(name)) for name in names)
        return [line for pair in pairs for line in _file_differences(*pair)]

    def _missing(self, folder: Path) -> Iterator[str]:
        for file in self.files:
            try:
                size_bytes = (folder / file.name).stat().st_size
            except OSError:
                yield f"`{printable(file.name)}`: locked {_told(file)}, not found"
                continue
            found = SourceFile(file.name, size_bytes)
            yield from _file_differences(file.name, file, found)

    def _refuse(self, where: str, lines: list[str]) -> None:
        if lines and self.is_frozen:
            raise self._refusal(where, lines)

    def _refusal(self, where: str, lines: list[str]) -> VerificationError:
        return VerificationError(
            f"the source `{printable(where)}` is not what `{self.origin}` says",
            facts=listed(lines),
            hint="bring back the locked files, or accept these: run `trtllm-pack lock` and review "
            "what it changes",
        )


def _file_differences(
    name: str, locked: SourceFile | None, found: SourceFile | None
) -> Iterator[str]:
    """Lines for one file; digests that one side does not know say nothing."""
    shown = f"`{printable(name)}`"
    if locked is None:
        assert found is not None
        yield f"{shown}: not locked, found {_told(found)}"
    elif found is None:
        yield f"{shown}: locked {_told(locked)}, not found"
    elif locked.size_bytes != found.size_bytes:
        yield f"{shown}: locked {_told(locked)}, found {_told(found)}"
    elif None not in (locked.sha256, found.sha256) and locked.sha256 != found.sha256:
        yield f"{shown}: locked SHA-256 `{locked.sha256}`, found `{found.sha256}`"
    elif None not in (locked.git_blob, found.git_blob) and locked.git_blob != found.git_blob:
        yield f"{shown}: locked git blob `{locked.git_blob}`, found `{found.git_blob}`"


def _told(file: SourceFile) -> str:
    return f"{file.size_bytes:,} bytes"
