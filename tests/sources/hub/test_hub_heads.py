"""Headers of weight files come without proof: a wrong one must not stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hub_emulator import HubEmulator
from tiny_source import REPO

from pipeline.errors import RemoteError, VerificationError
from pipeline.progress import Silent
from pipeline.sources.remote.source import RemoteSource

Opener = Callable[..., RemoteSource]
WEIGHTS = "model-00001-of-00002.safetensors"


@pytest.fixture(autouse=True)
def no_client_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits between its own attempts; nothing here depends on how long."""
    monkeypatch.setattr("time.sleep", lambda _: None)


def renamed(content: bytes) -> bytes:
    """The same file, but that a tensor has another name of the same length."""
    at = content.index(b'"', 9) + 1
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def send(hub: HubEmulator, content: bytes, told: str) -> None:
    headers: dict[str, str | None] = {"Content-Range": told}
    hub.fail("cdn", WEIGHTS, method="GET", status=206, body=content, headers=headers, times=1)


def test_a_wrong_header_is_asked_for_again(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    hub.add(REPO, files)
    size = len(files[WEIGHTS])
    send(hub, renamed(files[WEIGHTS]), f"bytes 0-{size - 1}/{size}")
    with pytest.raises(VerificationError, match=r"index\.json` disagrees") as caught:
        open_repo().checkpoint()
    assert "run again" in str(caught.value.hint)
    assert open_repo().checkpoint().tensors


@pytest.mark.parametrize("told", ["bytes 8-99/100", "items 0-9/10", "bytes */10", None])
def test_another_part_than_was_asked_for(
    told: str | None, hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    hub.add(REPO, files)
    send(hub, files[WEIGHTS], told or "")
    with pytest.raises(RemoteError, match="sends another part than was asked for"):
        open_repo().checkpoint()
    assert open_repo().checkpoint().tensors


def test_a_cached_file_with_a_wrong_header_does_not_hold_a_plan_up(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], tmp_path: Path
) -> None:
    """Only a download proves files of the cache, and brings them anew."""
    hub.add(REPO, files)
    (tmp_path / "out").mkdir()
    source = open_repo()
    source.fetch(tmp_path / "out", Silent())
    blob = next(tmp_path.glob(f"cache/*/snapshots/*/{WEIGHTS}")).resolve()
    blob.unlink()
    blob.write_bytes(renamed(files[WEIGHTS]))
    with pytest.raises(VerificationError, match="disagrees"):
        open_repo(source.commit, offline=True, store="store").checkpoint()
    again = open_repo(store="other")
    assert again.checkpoint().tensors
    (tmp_path / "again").mkdir()
    again.fetch(tmp_path / "again", Silent())
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_headers_of_a_refused_plan_are_forgotten(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    source.checkpoint()
    hub.requests.clear()
    open_repo(source.commit).checkpoint()
    assert not hub.requests
    open_repo(source.commit, offline=True).doubt()
    source.doubt()
    open_repo(source.commit).checkpoint()
    assert any(WEIGHTS in each.path for each in hub.requests)
