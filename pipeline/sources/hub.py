"""A source checkpoint in a Hugging Face Hub repo, at one commit; every byte compared with the hub.

The hub client does not check content, so each file is hashed here: LFS files against their
published SHA-256, all others against git's blob id. What a plan needs (listing, configs, headers)
is remembered per commit, so planning the same commit again makes no request.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifact import Json, place
from pipeline.checkpoint.huggingface import CONFIG_NAME, INDEX_NAME, SourceCheckpoint, assemble
from pipeline.checkpoint.safetensors_file import LENGTH_BYTES, header_bytes, parse_header
from pipeline.checkpoint.strict_json import listed, printable
from pipeline.errors import RemoteError, VerificationError
from pipeline.progress import Progress, Silent
from pipeline.sources.copying import FileDigests, hash_file
from pipeline.sources.hub_client import HubClient
from pipeline.sources.hub_errors import OFFLINE_HINT
from pipeline.sources.hub_memory import HubMemory
from pipeline.sources.listing import SourceFile, SourceListing
from pipeline.sources.selection import select_files

COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
DEFAULT_REVISION = "main"
MAX_TEXT_BYTES = 128 << 20
ATTEMPTS = 2
"""How often a file is fetched whose content is wrong."""


@dataclass(frozen=True)
class HubSource:
    """The needed files of a repo at one commit."""

    listing: SourceListing
    client: HubClient
    memory: HubMemory
    heads: dict[str, bytes] = field(default_factory=dict)
    """Weight-file headers that the plan was made from, by name; compared with the files later."""

    @property
    def commit(self) -> str:
        """The full commit id."""
        assert self.listing.commit is not None
        return self.listing.commit

    def hashed(self) -> HubSource:
        """Itself: the hub publishes a digest of every file."""
        return self

    def checkpoint(self) -> SourceCheckpoint:
        """Config, index and headers: no weight is downloaded.

        Raises VerificationError where the files are not valid, RemoteError where they cannot be
        had.
        """
        config = self.read_text(CONFIG_NAME)
        index = self.read_text(INDEX_NAME) if self.listing.find(INDEX_NAME) else None
        files = [file for file in self.listing.files if file.name in self.listing.weight_files]
        self._find_heads(files)
        headers = {
            file.name: parse_header(self.heads[file.name], file.name, file.size_bytes)
            for file in files
        }
        for name, head in self.heads.items():
            self.memory.remember_head(self.commit, name, head)
        return assemble(config, index, headers)

    def read_text(self, name: str) -> bytes:
        """The verified bytes of a small file of the listing."""
        file = self.listing.find(name)
        assert file is not None, f"`{name}` is not in the listing"
        return _read_text(self.client, self.memory, self.commit, file)

    def fetch(self, out_dir: Path, progress: Progress) -> list[Json]:
        """Bring every file into a folder: name, size in bytes and SHA-256 of each, sorted by name.

        Files are hard links to the hub client's cache where that is possible. Raises
        VerificationError where a file is twice not what the hub published, RemoteError where it
        cannot be had, ResourceError and MachineError for the disk of the cache.
        """
        progress.start("download", self.listing.total_bytes)
        records: list[Json] = []
        for file in self.listing.files:
            path, digests = _fetch_verified(self.client, self.commit, file, progress)
            self._compare_head(file, path)
            _place_verified(path, out_dir / file.name, digests)
            record = {"name": file.name, "size_bytes": file.size_bytes, "sha256": digests.sha256}
            records.append(record)
        return records

    def _find_heads(self, files: Sequence[SourceFile]) -> None:
        """Length and header of weight files: remembered, else from the cache, else by requests."""
        for file in files:
            head = self.memory.head(self.commit, file.name) or self._cached_head(file)
            if head is not None:
                self.heads[file.name] = head
        missing = [file for file in files if file.name not in self.heads]
        if missing and self.client.is_offline():
            raise RemoteError(
                f"{len(missing)} weight files of `{self.listing.where}` are not on this machine, "
                "and the network is not to be used",
                facts=listed([f"`{file.name}`" for file in missing]),
                hint=OFFLINE_HINT,
            )
        if missing:
            self.heads.update(self.client.read_heads(self.commit, missing))

    def _cached_head(self, file: SourceFile) -> bytes | None:
        """From a whole file in the client's cache, which `fetch` verifies later."""
        path = self.client.cached(self.commit, file.name)
        if path is None:
            return None
        with path.open("rb") as stream:
            head = stream.read(LENGTH_BYTES)
            try:
                head += stream.read(header_bytes(head, file.name, file.size_bytes) - len(head))
                parse_header(head, file.name, file.size_bytes)
            except VerificationError:
                return None
        return head

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


def open_hub(client: HubClient, revision: str | None, memory: HubMemory) -> HubSource:
    """List a repo at the commit that `revision` (default: the main branch) stands for.

    One request resolves and lists; a full commit that is remembered needs none. Raises RemoteError
    (no network, no such repo or revision, gated), RecipeError and VerificationError as
    `select_files` does.
    """
    commit, files = _resolve(client, revision or DEFAULT_REVISION, memory)
    by_name = {file.name: file for file in files}
    index = by_name.get(INDEX_NAME)
    text = None if index is None else _read_text(client, memory, commit, index)
    chosen = tuple(by_name[name] for name in select_files(by_name.keys(), text))
    unproved = [f"`{file.name}`" for file in chosen if not _has_digest(file)]
    if unproved:
        raise RemoteError(
            f"the hub publishes no digest of files of `{client.repo}`", facts=unproved
        )
    return HubSource(SourceListing("hub", client.repo, commit, chosen), client, memory)


def _resolve(
    client: HubClient, revision: str, memory: HubMemory
) -> tuple[str, Sequence[SourceFile]]:
    """The commit and all files of the repo there: remembered, or asked for."""
    pinned = COMMIT.fullmatch(revision) is not None
    known = memory.files(revision) if pinned else None
    if known is not None:
        return revision, known
    if client.is_offline():
        return _resolve_offline(client, revision, memory)
    commit, files = client.describe(revision)
    if COMMIT.fullmatch(commit) is None or (pinned and commit != revision):
        raise RemoteError(
            f"the hub resolves `{printable(revision)}` of `{client.repo}` to "
            f"`{printable(commit)}`, which is not that commit"
        )
    counts = Counter(file.name for file in files)
    repeated = [f"`{printable(name)}`" for name, count in counts.items() if count > 1]
    if repeated:
        raise VerificationError(f"`{client.repo}` lists files twice", facts=listed(repeated))
    memory.remember_files(commit, files)
    if not pinned:
        memory.remember_commit(revision, commit)
    return commit, files


def _resolve_offline(
    client: HubClient, revision: str, memory: HubMemory
) -> tuple[str, Sequence[SourceFile]]:
    """What a revision stood for when it was last resolved."""
    commit = memory.commit_of(revision)
    files = None if commit is None else memory.files(commit)
    if commit is None or files is None:
        raise RemoteError(
            f"`{printable(revision)}` of `{client.repo}` was not planned on this machine before, "
            "and the network is not to be used",
            hint=OFFLINE_HINT,
        )
    return commit, files


def _read_text(client: HubClient, memory: HubMemory, commit: str, file: SourceFile) -> bytes:
    """A small file from memory, else fetched, verified and remembered."""
    text = memory.text(commit, file.name)
    if text is not None:
        return text
    if file.size_bytes > MAX_TEXT_BYTES:
        raise VerificationError(f"`{file.name}` has more than {MAX_TEXT_BYTES} bytes")
    path, _ = _fetch_verified(client, commit, file, Silent())
    text = path.read_bytes()
    memory.remember_text(commit, file.name, text)
    return text


def _fetch_verified(
    client: HubClient, commit: str, file: SourceFile, progress: Progress
) -> tuple[Path, FileDigests]:
    """A file in the client's cache whose content is what the hub published."""
    attempts = 1 if client.is_offline() else ATTEMPTS
    for attempt in range(attempts):
        path = client.download(commit, file, progress if attempt == 0 else Silent())
        digests = hash_file(path, git_blob=file.sha256 is None)
        published = file.sha256 or file.git_blob
        found = digests.sha256 if file.sha256 else digests.git_blob
        if digests.size_bytes == file.size_bytes and found == published:
            return path, digests
        client.discard(path)
        progress.note(f"`{file.name}` came with wrong content")
    raise VerificationError(
        f"`{file.name}` of `{client.repo}` is not what the hub published",
        facts=[
            f"published: {file.size_bytes} bytes, digest `{published}`",
            f"found: {digests.size_bytes} bytes, digest `{found}`",
        ],
        hint="it was removed from the Hugging Face cache: run again with network access"
        if attempts == 1
        else f"it was fetched {attempts} times: something between here and the hub changes it",
    )


def _place_verified(path: Path, target: Path, digests: FileDigests) -> None:
    """Link a verified file to its place; where it had to be copied, compare the copy."""
    blob = path.resolve()
    place(blob, target)
    if not target.samefile(blob) and hash_file(target, git_blob=bool(digests.git_blob)) != digests:
        raise VerificationError(
            f"the copy of `{target.name}` differs from the file in the Hugging Face cache",
            hint="check the disk of the store",
        )


def _has_digest(file: SourceFile) -> bool:
    return DIGEST.fullmatch(file.sha256 or file.git_blob or "") is not None
