"""What a source asks of the client of a site: one repo, its listing and its files, in our words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.progress import Progress
from pipeline.sources.copying import FileDigests
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.listing import RepoKind, SourceFile

OFFLINE_HINT = "run once with network access and the same store, or name a folder by `source.path`"


@dataclass(frozen=True, slots=True)
class Verified:
    """A file on this machine whose content is the published one, and its digests."""

    path: Path
    digests: FileDigests


@dataclass(frozen=True, slots=True)
class Place:
    """Which repo of which site, in the words of messages and listings."""

    kind: RepoKind
    site: str
    """As messages call it."""

    repo: str
    """`owner/name`."""

    endpoint: str | None
    """The site's address as it may be shown, if it is not the usual one."""

    endpoint_hint: str
    """What to look at where something answers that should not."""

    default_revision: str
    """The main branch of every repo there."""


class RemoteClient(Protocol):
    """Access to one repo of a site. Failures are told as PipelineErrors."""

    @property
    def place(self) -> Place:
        """The repo and its site."""

    def is_offline(self) -> bool:
        """No request may be made."""

    def describe(self, revision: str) -> tuple[str, Sequence[SourceFile]]:
        """The commit that a revision stands for, and all files there with published digests."""

    def cached(self, commit: str, file: SourceFile) -> Path | None:
        """A whole file on this machine, not yet verified, or None."""

    def read_heads(self, commit: str, guesses: Mapping[SourceFile, int]) -> list[bytes]:
        """Length and header of weight files, in order; `guesses` says about how many bytes each."""

    def fetch(
        self,
        commit: str,
        files: Sequence[SourceFile],
        digests: DigestMemory,
        progress: Progress,
        finished: Callable[[SourceFile, Verified], None] = lambda *_: None,
    ) -> list[Verified]:
        """Bring files to this machine and prove each; `finished` is told of each as it is."""
