"""A cache of the client with wrong things in it, and bodies that do not end."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from hub_emulator import HubEmulator
from tiny_source import REPO

from pipeline.errors import MachineError, RemoteError, VerificationError
from pipeline.progress import Silent
from pipeline.sources.hub.cache_entries import discard
from pipeline.sources.hub.checks import SPARE_BYTES
from pipeline.sources.hub.repo import HubRepo
from pipeline.sources.remote.source import RemoteSource

Opener = Callable[..., RemoteSource]
WEIGHTS = "model-00001-of-00002.safetensors"
OTHER = "model-00002-of-00002.safetensors"
ENDLESS = 8 << 20
"""Bytes that come for a file that is far smaller."""


@pytest.fixture(autouse=True)
def no_client_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits between its own attempts; nothing here depends on how long."""
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def repo_cache(tmp_path: Path) -> Path:
    """Where the client keeps the repo."""
    folder = tmp_path / "cache" / f"models--{REPO.replace('/', '--')}"
    (folder / "blobs").mkdir(parents=True)
    return folder


def snapshot(repo_cache: Path, source: RemoteSource) -> Path:
    """The folder of links of the commit."""
    folder = repo_cache / "snapshots" / str(source.listing.commit)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def blob_of(repo_cache: Path, source: RemoteSource, name: str) -> Path:
    """Where the content of a file belongs."""
    file = source.listing.find(name)
    assert file is not None
    return repo_cache / "blobs" / str(file.sha256 or file.git_blob)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_body_is_read_no_further_than_the_file_can_be(
    compressed: bool,
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    repo_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What an attempt had written is seen where it ends, whether the client keeps it or not."""
    from huggingface_hub import file_download

    small = b'{"of": "its own"}'
    hub.add(REPO, {**files, "tokenizer_config.json": small})
    source = open_repo()
    body = gzip.compress(bytes(ENDLESS)) if compressed else bytes(ENDLESS)
    headers: dict[str, str | None] = {"Content-Encoding": "gzip"} if compressed else {}
    hub.fail(
        "hub",
        "tokenizer_config.json",
        status=200,
        headers=headers,
        body=body,
        chunked=True,
        times=99,
    )
    written: list[int] = []
    get = file_download.http_get

    def watched(url: str, temp_file: BinaryIO, **kwargs: object) -> None:
        try:
            get(url, temp_file, **kwargs)
        finally:
            if "tokenizer_config" in url:
                written.append(temp_file.tell())

    monkeypatch.setattr(file_download, "http_get", watched)
    with pytest.raises(VerificationError, match="not what the hub published") as caught:
        source.fetch(out, Silent())
    assert f"found: more than {len(small)} bytes came" in caught.value.facts
    assert len(written) == 2
    assert max(written) <= len(small) + SPARE_BYTES
    hub.faults.clear()
    (out.parent / "again").mkdir()
    assert source.fetch(out.parent / "again", Silent())


def test_a_redirect_with_a_body_that_does_not_end(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    headers = {"Location": f"{hub.cdn}/elsewhere"}
    hub.fail("cdn", WEIGHTS, status=302, headers=headers, body=bytes(2 * SPARE_BYTES), times=99)
    with pytest.raises(RemoteError, match="sends a redirect that does not end"):
        source.fetch(out, Silent())


def link_to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, link_to_zero, link_to_itself])
@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
@pytest.mark.parametrize("place", ["blob", "snapshot"])
def test_what_is_no_file_is_replaced(
    make: Callable[[Path], None],
    name: str,
    place: str,
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    repo_cache: Path,
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    blob = blob_of(repo_cache, source, name)
    make(blob if place == "blob" else snapshot(repo_cache, source) / name)
    source.fetch(out, Silent())
    assert (out / name).read_bytes() == files[name]
    assert Path("/dev/zero").is_char_device()


def test_a_folder_with_something_in_it_is_left_alone(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path, repo_cache: Path
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    blob = blob_of(repo_cache, source, WEIGHTS)
    (blob / "precious").mkdir(parents=True)
    with pytest.raises(MachineError, match="is not a file, and cannot be removed") as caught:
        source.fetch(out, Silent())
    assert "HF_HUB_CACHE" in (caught.value.hint or "")
    assert (blob / "precious").is_dir()


def test_links_that_lead_to_the_blobs_of_each_other(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path, repo_cache: Path
) -> None:
    """Neither blob is wrong: they are not fetched again."""
    hub.add(REPO, files)
    source = open_repo()
    links = snapshot(repo_cache, source)
    for name, wrong in ((WEIGHTS, OTHER), (OTHER, WEIGHTS)):
        blob_of(repo_cache, source, name).write_bytes(files[name])
        (links / name).symlink_to(f"../../blobs/{blob_of(repo_cache, source, wrong).name}")
    before = len(hub.paths("cdn"))
    source.fetch(out, Silent())
    for name in (WEIGHTS, OTHER):
        assert (out / name).read_bytes() == files[name]
    assert not [path for path in hub.paths("cdn")[before:] if "/model-" in path]


def test_equal_files_share_a_blob_that_comes_wrong_once(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    text = b'{"same": "content"}' * 20
    same = {"tokenizer_config.json": text, "generation_config.json": text}
    hub.add(REPO, {**files, **same})
    source = open_repo()
    hub.fail("hub", "_config.json", flip_at=5)
    source.fetch(out, Silent())
    for name in same:
        assert (out / name).read_bytes() == text


def test_what_lies_elsewhere_or_is_another_by_now_is_not_removed(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    outside, blob = tmp_path / "precious", cache / "blob"
    for number, (target, unchanged, stays) in enumerate(
        [(outside, True, True), (blob, False, True), (blob, True, False)]
    ):
        target.write_bytes(b"wrong")
        entry = cache / f"entry{number}"
        entry.symlink_to(target)
        discard(entry, cache, tmp_path / "x.lock", lambda unchanged=unchanged: unchanged)
        assert entry.is_symlink() is not unchanged
        assert target.exists() is stays


def test_no_client_brings_a_blob_while_it_is_discarded(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path, repo_cache: Path
) -> None:
    """Another process may find the same damage, and fetch the blob anew: it has to wait for us."""
    from filelock import FileLock, Timeout

    hub.add(REPO, files)
    source = open_repo()
    source.fetch(out, Silent())
    file = source.listing.find(WEIGHTS)
    assert file is not None
    assert isinstance(source.client, HubRepo)
    lock = source.client.client.lock(file)
    assert lock.is_file(), "the client locks something else"

    def is_unchanged() -> bool:
        with pytest.raises(Timeout):
            FileLock(lock).acquire(timeout=0)
        return True

    entry = snapshot(repo_cache, source) / WEIGHTS
    blob_of(repo_cache, source, WEIGHTS).unlink()
    blob_of(repo_cache, source, WEIGHTS).write_bytes(b"damaged")
    discard(entry, repo_cache.parent, lock, is_unchanged)
    with FileLock(lock, timeout=0):
        assert not entry.is_symlink()


@pytest.mark.parametrize("wrong", ["", "models--acme--tiny", ".locks"])
def test_a_file_where_a_folder_of_the_cache_belongs(
    wrong: str,
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    tmp_path: Path,
) -> None:
    hub.add(REPO, files)
    place = tmp_path / "cache" / wrong
    place.parent.mkdir(exist_ok=True)
    place.write_text("in the way")
    with pytest.raises(MachineError, match="Hugging Face cache cannot be used") as caught:
        open_repo().fetch(out, Silent())
    assert all(v in (caught.value.hint or "") for v in ("HF_HOME", "HF_HUB_CACHE", "HF_TOKEN_PATH"))


def test_an_encoding_that_lies_may_pass(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path, waits: list[float]
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    hub.fail("cdn", WEIGHTS, headers={"Content-Encoding": "gzip"})
    source.fetch(out, Silent())
    assert len(waits) == 1
    assert (out / WEIGHTS).read_bytes() == files[WEIGHTS]


@pytest.mark.parametrize("location", ["javascript:alert(1)", "ftp://cdn.example/x", "file:///x"])
def test_a_redirect_to_no_address(
    location: str,
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    waits: list[float],
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    headers: dict[str, str | None] = {"Location": location}
    hub.fail("cdn", WEIGHTS, status=302, headers=headers, times=99)
    with pytest.raises(RemoteError, match="does not answer like a Hugging Face Hub"):
        source.fetch(out, Silent())
    assert waits == []
