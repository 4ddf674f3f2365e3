"""How tests open a repo of the emulated ModelScope: nobody waits long."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from modelscope_emulator import ModelScopeEmulator
from tiny_source import REPO

from pipeline.progress import Progress, Silent
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.http.pace import Limits
from pipeline.sources.http.transport import LIMITS
from pipeline.sources.modelscope.client import ModelScopeClient
from pipeline.sources.modelscope.site import Site
from pipeline.sources.remote.memory import RepoMemory
from pipeline.sources.remote.source import RemoteSource, open_remote
from pipeline.sources.retry import RetryPolicy

QUICK = Limits(idle_s=0.3, slow_s=0.3, slow_bytes=2000)
"""For servers that are slow with a body on purpose; any may be slow because the machine is busy."""


@dataclass
class Opening:
    """Opens repos of `site` with stores below `folder`; `waits` has what retries waited."""

    site: ModelScopeEmulator
    folder: Path
    limits: Limits = LIMITS
    attempts: int = 5
    waits: list[float] = field(default_factory=list)

    def __call__(
        self,
        revision: str | None = None,
        *,
        repo: str = REPO,
        token: str | None = None,
        offline: bool = False,
        store: str = "store",
    ) -> RemoteSource:
        client = self.client(repo, token=token, offline=offline, store=store)
        root = client.store
        memory = RepoMemory(root, f"@modelscope/{repo}")
        return open_remote(client, revision, memory, DigestMemory(root))

    def client(
        self,
        repo: str = REPO,
        *,
        token: str | None = None,
        offline: bool = False,
        store: str = "store",
    ) -> ModelScopeClient:
        policy = RetryPolicy(self.attempts, sleep=self.waits.append)
        place = Site(self.site.endpoint, token)
        return ModelScopeClient(
            repo, self.folder / store, place, offline, policy, self.limits, gain_bytes=100_000
        )

    def fetch_one(self, name: str, progress: Progress | None = None) -> bytes:
        """Fetch a single file of the main branch, that alone within `limits`; what it is then."""
        source = replace(self, limits=LIMITS)()
        file = source.listing.find(name)
        assert file is not None
        shown = Silent() if progress is None else progress
        assert isinstance(source.client, ModelScopeClient)
        client = replace(source.client, limits=self.limits)
        (found,) = client.fetch(source.commit, [file], source.digests, shown)
        return found.path.read_bytes()

    def stored(self, repo: str = REPO, store: str = "store") -> dict[str, bytes]:
        """What lies in the store, by name."""
        folder = self.folder / store / "downloads" / "modelscope" / repo
        return {path.name: path.read_bytes() for path in folder.glob("*")}

    def out(self, name: str = "out") -> Path:
        """A folder to fetch to."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder


class Counting(Silent):
    """Keeps notes, and counts bytes."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.advanced = self.skipped = 0

    def advance(self, amount: int) -> None:
        self.advanced += amount

    def skip(self, amount: int) -> None:
        self.skipped += amount

    def note(self, message: str) -> None:
        self.notes.append(message)
