"""Hubs that let one wait: what is cut off, when, and that nothing is waited for in vain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_emulator import HubEmulator
from tiny_source import REPO

from pipeline.errors import RemoteError
from pipeline.progress import Silent
from pipeline.sources import crew
from pipeline.sources.hub import client, line
from pipeline.sources.remote.source import RemoteSource

Opener = Callable[..., RemoteSource]
WEIGHTS = "model-00001-of-00002.safetensors"


BYTE_S = 0.02
LONG_S = 120
"""Reached where a test fails alone."""


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own waits are long: it shall not give up before us. We look often."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", LONG_S)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", LONG_S)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(crew, "INTERVAL_S", 0.02)
    monkeypatch.setattr(crew, "GRACE_S", 0.5)
    monkeypatch.setattr(crew, "HEAD_GRACE_S", 0.5)
    # The client waits a second before it resumes.
    impatient = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
    monkeypatch.setattr("huggingface_hub.file_download.time", impatient)


class Trickling(threading.Event):
    """The end of a hub; it counts the waits between two bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.num_bytes += 1
        return super().wait(timeout)


@pytest.fixture
def impatient(hub: HubEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may stall for 0.3 seconds, by a clock that a trickle moves: 0.1 seconds a byte.

    By that clock a busy machine loses no time, and what is not slow on purpose takes none.
    """
    ends = Trickling()
    hub.closing = ends
    clock = SimpleNamespace(monotonic=lambda: ends.num_bytes * 0.1, sleep=time.sleep)
    monkeypatch.setattr(crew, "time", clock)
    monkeypatch.setattr(line, "time", clock)
    monkeypatch.setattr(client, "STALL_TIMEOUTS", 0.3 / LONG_S)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


class Notes(Silent):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.mark.usefixtures("impatient")
def test_a_body_that_trickles_is_cut_off_and_asked_for_again(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    hub.fail("cdn", WEIGHTS, trickle_s=BYTE_S)
    progress = Notes()
    source.fetch(out, progress)
    assert (out / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert [n for n in progress.notes if n.startswith("the hub has sent next to nothing for 0 s")]


@pytest.mark.usefixtures("impatient")
def test_a_body_that_trickles_for_ever(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    waits: list[float],
    tmp_path: Path,
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    (tmp_path / "before").mkdir()
    source.fetch(tmp_path / "before", Silent())
    for link in (tmp_path / "cache").rglob(WEIGHTS):  # all others are there
        link.resolve().unlink()
    hub.requests.clear()
    hub.fail("cdn", WEIGHTS, trickle_s=BYTE_S, times=10**6)
    with pytest.raises(RemoteError, match="has sent next to nothing for 0 s, asked for") as caught:
        source.fetch(out, Silent())
    assert "HF_HUB_DOWNLOAD_TIMEOUT" in (caught.value.hint or "")
    assert len(waits) == 4
    assert len([path for path in hub.paths("cdn") if WEIGHTS in path]) == 5
    assert not (out / WEIGHTS).exists()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("path", ["/api/models", "/resolve/"])
def test_a_head_that_trickles_is_not_waited_for(
    path: str, hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    hub.add(REPO, files)
    hub.fail("hub", path, method="", trickle_s=BYTE_S, trickle_head=True, times=10**6)
    with pytest.raises(RemoteError, match="has sent next to nothing"):
        open_repo().checkpoint()


def test_a_stalled_listing(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(client, "STALL_TIMEOUTS", LONG_S)
    hub.add(REPO, files)
    hub.fail("hub", "/api/models", cut_at=100, ending="stall", times=10**6)
    with pytest.raises(RemoteError, match=r"does not answer in time|cannot be reached"):
        open_repo()
    # The hub may still be about to write down what the client has given up.
    _wait_until(lambda: len(hub.requests) >= 5, "not all requests came")
    assert len(hub.requests) == 5
    assert len(waits) == 4


@pytest.mark.usefixtures("impatient")
def test_a_listing_that_trickles_for_ever(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    """Every byte is progress here: the deadline ends it."""
    hub.add(REPO, files)
    hub.fail("hub", "/api/models", trickle_s=BYTE_S, times=10**6)
    with pytest.raises(RemoteError, match=r"has not finished after|has sent next to nothing"):
        open_repo(deadline_s=1.0)


def test_what_the_hub_asks_for_is_slept_by_us_alone(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    waits: list[float],
    tmp_path: Path,
) -> None:
    """The client would sleep for as long as it is told."""
    hub.add(REPO, files)
    source = open_repo()
    hub.fail("cdn", WEIGHTS, status=429, headers={"Retry-After": "86400"}, times=10**6)
    with pytest.raises(RemoteError, match="HTTP 429"):
        source.fetch(out, Silent())
    assert waits == []
    hub.faults.clear()
    out = tmp_path / "again"
    out.mkdir()
    hub.fail("cdn", WEIGHTS, status=503, headers={"Retry-After": "100"}, times=2)
    source.fetch(out, Silent())
    assert [100.5 <= wait <= 102 for wait in waits] == [True, True]


def test_a_failure_stops_the_other_files(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    hub.fail("cdn", WEIGHTS, trickle_s=0.05, times=10**6)
    hub.fail("cdn", "tokenizer.json", status=404)
    before = threading.enumerate()
    with pytest.raises(RemoteError, match=r"does not have `tokenizer\.json` of `acme/tiny`"):
        source.fetch(out, Silent())
    _no_thread_asks(before)


def test_an_interrupt_stops_all_files(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    hub.fail("cdn", WEIGHTS, trickle_s=0.02, times=10**6)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.sources.remote.source._place_verified", interrupt)
    before = threading.enumerate()
    with pytest.raises(KeyboardInterrupt):
        source.fetch(out, Silent())
    _no_thread_asks(before)
    assert not list(out.iterdir())


def _no_thread_asks(before: Collection[threading.Thread]) -> None:
    """All threads that were begun meanwhile end by themselves, long before the file does."""

    def ended() -> bool:
        left = [thread for thread in threading.enumerate() if thread not in before]
        return not [thread for thread in left if thread.name.startswith(("source-", "follow"))]

    _wait_until(ended, "threads are left")


def _wait_until(happened: Callable[[], bool], otherwise: str) -> None:
    give_up_at = time.monotonic() + LONG_S
    while not happened():
        if time.monotonic() > give_up_at:
            pytest.fail(otherwise)
        time.sleep(0.02)
