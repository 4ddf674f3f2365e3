"""A source checkpoint in a repo of any site, at one commit; every byte is what the site published.

What a plan needs (listing, configs, headers) is remembered per commit, so planning the same commit
again makes no request. How a site is asked, and where its files lie, is its client's business.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.huggingface import (
    CONFIG_NAME,
    INDEX_NAME,
    SourceCheckpoint,
    assemble,
    parse_index,
)
from pipeline.checkpoint.safetensors_file import (
    parse_header,
)
from pipeline.checkpoint.strict_json import listed, printable
from pipeline.errors import RemoteError, VerificationError
from pipeline.placement.placing import place
from pipeline.progress import Progress, Silent
from pipeline.sources.copying import hash_file
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.listing import SourceFile, SourceListing
from pipeline.sources.remote.client import OFFLINE_HINT, RemoteClient, Verified
from pipeline.sources.remote.heads import guess_head_bytes, read_head
from pipeline.sources.remote.memory import RepoMemory
from pipeline.sources.remote.revisions import resolve
from pipeline.sources.selection import select_files

DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
MAX_TEXT_BYTES = 128 << 20
FIRST_READ_BYTES = 128 << 10
"""Of a weight file that no index describes: enough for most headers, so that one request does."""

WRONG_FILE_HINT = (
    "run again; if it stays so, name another revision: whoever publishes this one must mend it"
)


@dataclass(frozen=True)
class RemoteSource:
    """The needed files of a repo at one commit."""

    listing: SourceListing
    client: RemoteClient
    memory: RepoMemory
    digests: DigestMemory
    heads: dict[str, bytes] = field(default_factory=dict)
    """Weight-file headers that the plan was made from, by name; compared with the files later."""

    @property
    def commit(self) -> str:
        """The full commit id."""
        assert self.listing.commit is not None
        return self.listing.commit

    def hashed(self) -> RemoteSource:
        """Itself: the site publishes a digest of every file."""
        return self

    def checkpoint(self) -> SourceCheckpoint:
        """Config, index and headers: no weight is downloaded.

        Raises VerificationError where the files are not valid, RemoteError where they cannot be
        had.
        """
        config = self.read_text(CONFIG_NAME)
        index = self.read_text(INDEX_NAME) if self.listing.find(INDEX_NAME) else None
        with _saying_what_to_do():
            weight_map = {} if index is None else parse_index(index)
            found = self._known_heads()
            try:
                return self._assemble(config, index, found | self._missing_heads(found, weight_map))
            except VerificationError:
                # Of files that are not verified yet, which `fetch` would get anew.
                if not found or self.client.is_offline():
                    raise
            return self._assemble(config, index, self._missing_heads({}, weight_map))

    def _assemble(
        self, config: bytes, index: bytes | None, heads: Mapping[str, bytes]
    ) -> SourceCheckpoint:
        """What the plan is made from; headers that fit together are remembered."""
        headers = {
            file.name: parse_header(heads[file.name], file.name, file.size_bytes)
            for file in self._weight_files
        }
        checkpoint = assemble(config, index, headers)
        self.heads.update(heads)
        for name, head in heads.items():
            self.memory.remember_head(self.commit, name, head)
        return checkpoint

    def doubt(self) -> None:
        """Forget the headers: they came without proof, and the plan that they led to is refused.

        Where none can be had anew, they are kept.
        """
        for name in () if self.client.is_offline() else self.heads:
            self.memory.forget_head(self.commit, name)

    def read_text(self, name: str) -> bytes:
        """The verified bytes of a small file of the listing."""
        file = self.listing.find(name)
        assert file is not None, f"`{name}` is not in the listing"
        with self.memory.doubting(self.commit):
            return _read_text(self.client, self.memory, self.digests, self.commit, file)

    def fetch(self, out_dir: Path, progress: Progress) -> list[Json]:
        """Bring every file into a folder: name, size in bytes and SHA-256 of each, sorted by name.

        They are hard links to where the client keeps its files, where that is possible. Raises
        VerificationError where a file is twice not what was published, RemoteError where it cannot
        be had, ResourceError and MachineError for the disk.
        """
        progress.start("download", self.listing.total_bytes)

        def place_it(file: SourceFile, verified: Verified) -> None:
            self._compare_head(file, verified.path)
            _place_verified(verified, out_dir / file.name)

        files = self.listing.files
        with self.memory.doubting(self.commit):
            found = self.client.fetch(self.commit, files, self.digests, progress, place_it)
        return [
            {"name": file.name, "size_bytes": file.size_bytes, "sha256": one.digests.sha256}
            for file, one in zip(files, found, strict=True)
        ]

    @property
    def _weight_files(self) -> list[SourceFile]:
        return [file for file in self.listing.files if file.name in self.listing.weight_files]

    def _known_heads(self) -> dict[str, bytes]:
        """Headers that need no request: remembered, else of files on this machine."""
        found = {
            file.name: self.heads.get(file.name)
            or self.memory.head(self.commit, file.name)
            or self._cached_head(file)
            for file in self._weight_files
        }
        return {name: head for name, head in found.items() if head is not None}

    def _missing_heads(
        self, found: Collection[str], weight_map: Mapping[str, str]
    ) -> dict[str, bytes]:
        """Length and header of the weight files that are not among the found ones: by requests."""
        missing = [file for file in self._weight_files if file.name not in found]
        if missing and self.client.is_offline():
            raise RemoteError(
                f"{len(missing)} weight files of `{self.listing.where}` are not on this machine, "
                "and the network is not to be used",
                facts=listed([f"`{file.name}`" for file in missing]),
                hint=OFFLINE_HINT,
            )
        sizes = guess_head_bytes(weight_map)
        guesses = {file: sizes.get(file.name, FIRST_READ_BYTES) for file in missing}
        heads = self.client.read_heads(self.commit, guesses) if missing else []
        return dict(zip((file.name for file in missing), heads, strict=True))

    def _cached_head(self, file: SourceFile) -> bytes | None:
        """From a whole file on this machine, which `fetch` verifies later."""
        path = self.client.cached(self.commit, file)
        return None if path is None else read_head(path, file)

    def _compare_head(self, file: SourceFile, path: Path) -> None:
        """The plan was made from a header that came without proof: here is the proof."""
        planned = self.heads.get(file.name)
        if planned is None:
            return
        with path.open("rb") as stream:
            if stream.read(len(planned)) == planned:
                return
        self.memory.forget_head(self.commit, file.name)
        raise VerificationError(
            f"the header of `{file.name}` differs from the one that the plan was made from",
            hint="run again: the plan is then made from the verified file",
        )


def open_remote(
    client: RemoteClient,
    revision: str | None,
    memory: RepoMemory,
    digests: DigestMemory,
    code: Collection[str] = (),
) -> RemoteSource:
    """List a repo at the commit that `revision` (default: the main branch) stands for.

    A full commit that is remembered needs no request. Raises RemoteError (no network, no such repo
    or revision, not for us), RecipeError and VerificationError as `select_files` does;
    `code` is for it.
    """
    commit, files = resolve(client, revision or client.place.default_revision, memory)
    by_name = {file.name: file for file in files}
    index = by_name.get(INDEX_NAME)
    with memory.doubting(commit):
        text = None if index is None else _read_text(client, memory, digests, commit, index)
        with _saying_what_to_do():
            chosen = tuple(by_name[name] for name in select_files(by_name.keys(), text, code))
        _refuse_unproved(client, chosen)
    listing = SourceListing(
        client.place.kind, client.place.repo, commit, chosen, client.place.endpoint
    )
    return RemoteSource(listing, client, memory, digests)


def _read_text(
    client: RemoteClient, memory: RepoMemory, digests: DigestMemory, commit: str, file: SourceFile
) -> bytes:
    """A small file from memory, else fetched, verified and remembered."""
    text = memory.text(commit, file.name)
    if text is not None:
        return text
    _refuse_unproved(client, [file])
    if file.size_bytes > MAX_TEXT_BYTES:
        raise VerificationError(f"`{file.name}` has more than {MAX_TEXT_BYTES} bytes")
    (verified,) = client.fetch(commit, [file], digests, Silent())
    text = verified.path.read_bytes()
    memory.remember_text(commit, file.name, text)
    return text


@contextmanager
def _saying_what_to_do() -> Iterator[None]:
    """What is wrong with a file of the repo itself is for others to mend.

    Headers came without proof (a plan fetches no whole file), so what sent them may be at fault.
    """
    try:
        yield
    except VerificationError as error:
        raise VerificationError(error.message, hint=WRONG_FILE_HINT, facts=error.facts) from None


def _place_verified(verified: Verified, target: Path) -> None:
    """Link a verified file to its place; where it had to be copied, compare the copy."""
    blob, digests = verified.path.resolve(), verified.digests
    place(blob, target)
    if not target.samefile(blob) and hash_file(target, git_blob=bool(digests.git_blob)) != digests:
        raise VerificationError(
            f"the copy of `{target.name}` differs from the file that it was made from",
            hint="check the disk of the store",
        )


def _refuse_unproved(client: RemoteClient, files: Sequence[SourceFile]) -> None:
    unproved = [f"`{printable(file.name)}`" for file in files if not _has_digest(file)]
    if unproved:
        raise VerificationError(
            f"{client.place.site} publishes no size and digest of files of `{client.place.repo}`",
            facts=listed(unproved),
            hint=f"{client.place.endpoint_hint}; a mirror must list what the site itself does",
        )


def _has_digest(file: SourceFile) -> bool:
    return DIGEST.fullmatch(file.sha256 or file.git_blob or "") is not None
