"""Fixtures of the source tests: a small checkpoint, and an emulated hub for the real client."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from hub_emulator import HubEmulator
from tiny_source import REPO, checkpoint_files

from pipeline.sources.hub.client import HubClient
from pipeline.sources.hub.repo import open_hub
from pipeline.sources.remote.memory import RepoMemory
from pipeline.sources.remote.source import RemoteSource
from pipeline.sources.retry import RetryPolicy


@pytest.fixture
def files() -> dict[str, bytes]:
    return checkpoint_files()


@pytest.fixture
def folder(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """The checkpoint as a local folder."""
    root = tmp_path / "source"
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubEmulator]:
    """An emulated hub; the client has no token and none of the developer's settings."""
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # The hub lives in this process: where one has to wait for it, the machine is busy.
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 120)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 120)
    with HubEmulator() as emulator:
        yield emulator


@pytest.fixture
def waits() -> list[float]:
    """What the retries waited, in seconds; nobody really waits."""
    return []


Opener = Callable[..., RemoteSource]


@pytest.fixture
def open_repo(hub: HubEmulator, tmp_path: Path, waits: list[float]) -> Opener:
    """Open a repo of the emulated hub with a cache and a store of this test."""

    def opener(
        revision: str | None = None,
        *,
        repo: str = REPO,
        offline: bool = False,
        cache: str = "cache",
        store: str = "store",
        deadline_s: float = 300.0,
        code: Collection[str] = (),
    ) -> RemoteSource:
        policy = RetryPolicy(sleep=waits.append, deadline_s=deadline_s)
        client = HubClient(repo, hub.endpoint, tmp_path / cache, offline, policy)
        return open_hub(client, revision, RepoMemory(tmp_path / store, repo), code)

    return opener
