"""Hub sources through the real client, while hub, CDN or network misbehave."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_emulator import HubEmulator
from tiny_source import REPO, weight_file

from pipeline.errors import MachineError, RecipeError, RemoteError, ResourceError, VerificationError
from pipeline.progress import Silent
from pipeline.sources.hub.client import HubClient
from pipeline.sources.listing import SourceFile
from pipeline.sources.remote.source import RemoteSource
from pipeline.sources.retry import RetryPolicy

Opener = Callable[..., RemoteSource]
WEIGHTS = "model-00001-of-00002.safetensors"


@pytest.fixture(autouse=True)
def no_client_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits between its own attempts; nothing here depends on how long."""
    monkeypatch.setattr("time.sleep", lambda _: None)


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


def test_gated_repo(hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]) -> None:
    hub.add(REPO, files, gated=True)
    with pytest.raises(RemoteError, match=r"`acme/tiny` is gated.*HTTP 403") as caught:
        open_repo()
    assert f"{hub.endpoint}/acme/tiny" in (caught.value.hint or "")
    assert "HF_TOKEN" in (caught.value.hint or "")


def test_gated_headers(hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]) -> None:
    repo = hub.add(REPO, files)
    source = open_repo()
    source.read_text("config.json")
    source.read_text("tokenizer_config.json")
    repo.gated = True
    with pytest.raises(RemoteError, match="is gated"):
        source.checkpoint()


@pytest.mark.parametrize("private", [False, True])
def test_missing_or_private_repo(
    private: bool, hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    if private:
        hub.add(REPO, files, private=True)
    with pytest.raises(RemoteError, match="does not exist, or is private") as caught:
        open_repo()
    assert "source.repo" in (caught.value.hint or "")
    assert len(hub.requests) == 1


def test_missing_revision(hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]) -> None:
    hub.add(REPO, files)
    with pytest.raises(RemoteError, match="`acme/tiny` has no revision `v9`") as caught:
        open_repo("v9")
    assert "source.revision" in (caught.value.hint or "")


def test_impossible_repo_name(open_repo: Opener) -> None:
    with pytest.raises(RecipeError, match="not a name that a repo can have"):
        open_repo(repo="acme/a--b")


def test_refused_token(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "s" * 30)
    hub.add(REPO, files)
    message = {"X-Error-Message": "Invalid credentials in Authorization header"}
    hub.fail("hub", "/api/models", status=401, headers=message)
    with pytest.raises(RemoteError, match=r"refuses access.*HTTP 401") as caught:
        open_repo()
    assert "ssss" not in repr((caught.value.message, caught.value.hint, caught.value.facts))


@pytest.mark.parametrize("flip_at", [50, 300_000, -1])
def test_a_flipped_byte_is_never_accepted(
    flip_at: int, hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    hub.fail("cdn", WEIGHTS, flip_at=flip_at, times=99)
    with pytest.raises(VerificationError, match=f"`{WEIGHTS}`.*not what the hub published"):
        source.fetch(out, Silent())
    assert len([path for path in hub.paths("cdn") if WEIGHTS in path]) == 2
    assert not (out / WEIGHTS).exists()
    hub.faults.clear()
    (out.parent / "again").mkdir()
    assert source.fetch(out.parent / "again", Silent())


def test_a_byte_that_flips_once_is_fetched_again(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    hub.fail("cdn", WEIGHTS, flip_at=-1)
    progress = Notes()
    source.fetch(out, progress)
    assert (out / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert progress.notes == [f"`{WEIGHTS}` came with wrong content"]


def test_a_small_file_is_compared_too(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    hub.add(REPO, files)
    hub.fail("hub", "config.json", flip_at=3, times=99)
    with pytest.raises(VerificationError, match=r"`config\.json`.*not what the hub published"):
        open_repo().checkpoint()


def test_a_cache_that_was_tampered_with(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path, tmp_path: Path
) -> None:
    hub.add(REPO, files)
    open_repo().fetch(out, Silent())
    (blob,) = (tmp_path / "cache").rglob(f"snapshots/*/{WEIGHTS}")
    blob.resolve().write_bytes(files[WEIGHTS][:-1] + b"\xff")
    for number, offline in ((1, True), (2, False)):
        again = tmp_path / f"again{number}"
        again.mkdir()
        if offline:
            with pytest.raises(VerificationError, match="not what the hub published") as caught:
                open_repo(offline=True).fetch(again, Silent())
            assert "removed from the Hugging Face cache" in (caught.value.hint or "")
        else:
            open_repo().fetch(again, Silent())
            assert (again / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_a_header_that_was_not_the_files(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    """A plan made from a wrong header must not meet the right file."""
    hub.add(REPO, files)
    wrong = files[WEIGHTS].replace(b'"BF16"', b' "F16"', 1)
    assert wrong != files[WEIGHTS]
    told: dict[str, str | None] = {"Content-Range": f"bytes 0-{len(wrong) - 1}/{len(wrong)}"}
    hub.fail("cdn", WEIGHTS, status=206, body=wrong, headers=told, times=10**6)
    source = open_repo()
    source.checkpoint()
    hub.faults.clear()
    with pytest.raises(VerificationError, match="differs from the one that the plan was made from"):
        source.fetch(out, Silent())
    again = open_repo()
    again.checkpoint()
    (out.parent / "again").mkdir()
    assert again.fetch(out.parent / "again", Silent())


def test_a_header_that_is_cut_short_is_asked_for_again(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], waits: list[float]
) -> None:
    hub.add(REPO, files)
    hub.fail("cdn", WEIGHTS, cut_at=20)
    assert open_repo().checkpoint().tensors
    assert len(waits) == 1


def test_a_cdn_without_ranges_is_read_no_further_than_needed(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    files[WEIGHTS] = weight_file("a", "b", num_bytes=30_000_000)
    hub.add(REPO, files)
    hub.fail("cdn", WEIGHTS, ignore_range=True)
    assert len(open_repo().checkpoint().tensors) == 3
    assert hub.sent_bytes < 20_000_000  # what the sockets hold, not 60 MB


def test_a_body_that_is_cut_short(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    hub.fail("cdn", WEIGHTS, cut_at=1000, times=2)
    source.fetch(out, Silent())
    assert (out / WEIGHTS).read_bytes() == files[WEIGHTS]


@pytest.mark.parametrize(("server", "method"), [("hub", "HEAD"), ("cdn", "GET")])
def test_unavailable_for_a_while(
    server: str,
    method: str,
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    hub.fail(server, WEIGHTS, method=method, status=503, times=3)
    source.fetch(out, Silent())
    assert (out / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_unavailable_for_ever(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], waits: list[float]
) -> None:
    hub.add(REPO, files)
    hub.fail("hub", "/api/models", status=503, times=10**6)
    with pytest.raises(RemoteError, match="answered the repo `acme/tiny` with HTTP 503") as caught:
        open_repo()
    assert caught.value.hint == "try again later"
    assert len(waits) == 4
    assert len(hub.requests) == 5


def test_planning_says_that_it_asks_once_more(
    hub: HubEmulator, files: dict[str, bytes], waits: list[float], tmp_path: Path
) -> None:
    hub.add(REPO, files)
    hub.fail("hub", "/api/models", status=503, times=2)
    notes: list[str] = []
    policy = RetryPolicy(sleep=waits.append)
    client = HubClient(REPO, hub.endpoint, tmp_path / "cache", policy=policy, note=notes.append)
    client.describe("main")
    assert [note.partition(" in ")[0] for note in notes] == [
        "the hub answered with HTTP 503; attempt 2 of 5",
        "the hub answered with HTTP 503; attempt 3 of 5",
    ]


def test_too_many_requests_waits_as_told(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], waits: list[float]
) -> None:
    hub.add(REPO, files)
    hub.fail("hub", "/api/models", status=429, headers={"Retry-After": "42"})
    open_repo()
    assert [42.5 <= wait <= 43 for wait in waits] == [True]


def test_too_many_requests_for_too_long(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], waits: list[float]
) -> None:
    hub.add(REPO, files)
    hub.fail("hub", "/api/models", status=429, headers={"RateLimit": '"api";r=0;t=3000'})
    with pytest.raises(RemoteError, match="HTTP 429") as caught:
        open_repo()
    assert "HF_TOKEN" in (caught.value.hint or "")
    assert waits == []


@pytest.mark.parametrize("path", ["/api/models", "/resolve/"])
def test_a_login_page_in_place_of_the_hub(
    path: str, hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], waits: list[float]
) -> None:
    hub.add(REPO, files)
    page = {"Content-Type": "text/html"}
    for method in ("GET", "HEAD"):
        hub.fail("hub", path, method=method, status=200, headers=page, body=b"<html>", times=99)
    with pytest.raises(RemoteError, match="does not answer like a Hugging Face Hub") as caught:
        open_repo()
    assert "HF_ENDPOINT" in (caught.value.hint or "")
    assert waits == []


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"id": "x", "sha": "y"}', b"null"])
def test_json_that_is_no_repo(
    body: bytes, hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    hub.add(REPO, files)
    hub.fail("hub", "/api/models", status=200, body=body)
    with pytest.raises(RemoteError):
        open_repo()


def test_a_commit_that_becomes_another(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    repo = hub.add(REPO, files)
    body = b'{"id": "x", "sha": "%s", "siblings": []}' % (b"e" * 40)
    hub.fail("hub", "/api/models", status=200, body=body, times=2)
    with pytest.raises(RemoteError, match="which is not that commit"):
        open_repo(repo.commit)
    with pytest.raises(RecipeError, match=r"no `config\.json`"):
        open_repo("main")


def test_no_network(hub: HubEmulator, open_repo: Opener, waits: list[float]) -> None:
    with hub.hung_up(), pytest.raises(RemoteError, match="cannot be reached") as caught:
        open_repo()
    assert "--offline" in (caught.value.hint or "")
    assert len(waits) == 4
    assert "Error" in caught.value.facts[0]


def test_no_network_while_fetching(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    with hub.hung_up(), pytest.raises(RemoteError, match="cannot be reached"):
        source.fetch(out, Silent())


def test_xet_storage_that_fails_gives_way_to_http(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("hf_xet")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    hub.add(REPO, files, xet=True)
    progress = Notes()
    open_repo().fetch(out, progress)
    assert (out / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert [note for note in progress.notes if "using plain HTTP" in note]
    assert len([path for path in hub.paths() if "xet-read-token" in path]) >= 1


def test_xet_storage_that_fails_for_several_files_at_once(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What one thread turns off must not leave another without its second way."""
    from huggingface_hub import constants

    def xet_get() -> None:
        constants.HF_HUB_DISABLE_XET = True  # as the thread of another file does
        raise RuntimeError("storage")

    def ask(self: HubClient, commit: str, file: SourceFile) -> Path:
        if not constants.HF_HUB_DISABLE_XET:
            xet_get()
        return whole(self, commit, file)

    whole = HubClient._ask_client
    monkeypatch.setattr(HubClient, "_ask_client", ask)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.add(REPO, files)
    assert open_repo().fetch(out, Silent())


def test_a_file_too_large_for_plain_http(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.MAX_HTTP_DOWNLOAD_SIZE", 100_000)
    with pytest.raises(MachineError, match="too many for plain HTTP"):
        source.fetch(out, Silent())


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, ResourceError), (errno.EROFS, MachineError), (errno.EACCES, MachineError)],
)
def test_the_disk_of_the_cache(
    number: int,
    kind: type[Exception],
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    waits: list[float],
) -> None:
    hub.add(REPO, files)
    source = open_repo()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", refuse)
    with pytest.raises(kind, match="Hugging Face cache"):
        source.fetch(out, Silent())
    assert waits == []


def test_a_partial_file_that_cannot_be_resumed(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    tmp_path: Path,
    waits: list[float],
) -> None:
    """Some versions of the client resume from what is there, and would meet 416 for ever."""
    hub.add(REPO, files)
    source = open_repo()
    weights = source.listing.find(WEIGHTS)
    assert weights is not None
    partial = tmp_path / "cache" / "models--acme--tiny" / "blobs" / f"{weights.sha256}.incomplete"
    partial.write_bytes(b"x" * (weights.size_bytes + 1))
    hub.fail("cdn", WEIGHTS, status=416)
    source.fetch(out, Silent())
    assert (out / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert len(waits) == 1
    assert not partial.exists()


def test_a_partial_file_of_other_bytes(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path, tmp_path: Path
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    weights = source.listing.find(WEIGHTS)
    assert weights is not None
    partial = tmp_path / "cache" / "models--acme--tiny" / "blobs" / f"{weights.sha256}.incomplete"
    partial.write_bytes(b"x" * 1000)
    source.fetch(out, Silent())
    assert (out / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_a_listing_that_was_wrong_is_asked_for_again(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    """What is remembered of a commit must not stand in the way for ever."""
    repo = hub.add(REPO, files)
    wrong = [
        {"rfilename": name, "size": len(content), "blobId": "0" * 40}
        for name, content in files.items()
    ]
    body = json.dumps({"sha": repo.commit, "siblings": wrong}).encode()
    hub.fail("hub", "/api/models", status=200, body=body)
    with pytest.raises(VerificationError, match="not what the hub published"):
        open_repo(repo.commit)
    open_repo(repo.commit).fetch(out, Silent())
    assert (out / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_a_signed_address_that_has_expired_is_signed_again(
    hub: HubEmulator, files: dict[str, bytes], open_repo: Opener, tmp_path: Path
) -> None:
    hub.add(REPO, files)
    hub.fail("cdn", "", status=403, times=1)
    assert open_repo().fetch(tmp_path / "out", Silent())
    hub.fail("cdn", "", status=403, times=10**6)
    with pytest.raises(RemoteError, match=r"^`127\S+`, where `127\S+` sends us, refuses") as caught:
        open_repo(cache="other").fetch(tmp_path / "other-out", Silent())
    assert "HF_TOKEN" not in str(caught.value.hint)
    assert len(hub.paths("cdn")) < 60
