"""A source checkpoint in a Hugging Face Hub repo: the client of the hub, as sources ask it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.progress import Progress
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.hub.client import HubClient
from pipeline.sources.hub.endpoints import HUB, own_endpoint, without_user
from pipeline.sources.hub.files import fetch_files
from pipeline.sources.hub.requests import ENDPOINT_HINT
from pipeline.sources.listing import SourceFile
from pipeline.sources.remote.client import Place, Verified
from pipeline.sources.remote.memory import RepoMemory
from pipeline.sources.remote.source import RemoteSource, open_remote


@dataclass(frozen=True, slots=True)
class HubRepo:
    """A `RemoteClient` of the hub. Files lie in its own client's cache."""

    client: HubClient

    @property
    def place(self) -> Place:
        """The repo and its site."""
        endpoint = self.client.endpoint or own_endpoint()
        shown = None if endpoint == HUB else without_user(endpoint)
        return Place("hub", "the hub", self.client.repo, shown, ENDPOINT_HINT, "main")

    def is_offline(self) -> bool:
        """No request may be made."""
        return self.client.is_offline()

    def describe(self, revision: str) -> tuple[str, Sequence[SourceFile]]:
        """The commit that a revision stands for, and all files there: in one request."""
        return self.client.describe(revision)

    def cached(self, commit: str, file: SourceFile) -> Path | None:
        """A whole file in the client's cache, not yet verified, or None."""
        return self.client.cached(commit, file.name)

    def read_heads(self, commit: str, guesses: Mapping[SourceFile, int]) -> list[bytes]:
        """Length and header of weight files, in order; `guesses` says about how many bytes each."""
        return self.client.read_heads(commit, guesses)

    def fetch(
        self,
        commit: str,
        files: Sequence[SourceFile],
        digests: DigestMemory,
        progress: Progress,
        finished: Callable[[SourceFile, Verified], None] = lambda *_: None,
    ) -> list[Verified]:
        """Bring files into the client's cache and prove each; `finished` is told of each."""
        return fetch_files(self.client, commit, files, digests, progress, finished)


def open_hub(
    client: HubClient, revision: str | None, memory: RepoMemory, code: Collection[str] = ()
) -> RemoteSource:
    """List a repo of the hub, see `open_remote`. One request resolves and lists."""
    return open_remote(HubRepo(client), revision, memory, DigestMemory(memory.root), code)
