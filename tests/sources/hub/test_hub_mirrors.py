"""Other endpoints than the hub's own, and hubs that send one elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_emulator import HubEmulator
from tiny_source import REPO

from pipeline.answers.plan_report import source_text
from pipeline.errors import RemoteError, VerificationError
from pipeline.progress import Silent
from pipeline.recipe.schema import Source
from pipeline.sources import AnySource, RemoteSource, open_source
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.hub.endpoints import find_mirror, memory_name, without_user

Opener = Callable[..., RemoteSource]
TOKEN = "hf_" + "t" * 30
WEIGHTS = "model-00001-of-00002.safetensors"


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A token that the client would send; a cache of this test."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return TOKEN


def open_from(endpoint: str | None, folder: Path, revision: str | None = None) -> AnySource:
    source = Source(repo=REPO, endpoint=endpoint, revision=revision)
    return open_source(source, folder, DigestMemory(folder / "store"))


def sent_tokens(hub: HubEmulator) -> set[str | None]:
    return {request.headers.get("authorization") for request in hub.requests}


def test_a_mirror_gets_no_token(
    hub: HubEmulator, files: dict[str, bytes], tmp_path: Path, token: str
) -> None:
    hub.add(REPO, files)
    source = open_from(f"{hub.endpoint}/", tmp_path)
    source.checkpoint()
    (tmp_path / "out").mkdir()
    source.fetch(tmp_path / "out", Silent())
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert sent_tokens(hub) == {None}
    assert source.listing.endpoint == hub.endpoint


@pytest.mark.parametrize("options", [{"private": True}, {"gated": True}])
def test_a_mirror_that_wants_a_token(
    options: dict[str, bool], hub: HubEmulator, files: dict[str, bytes], tmp_path: Path, token: str
) -> None:
    hub.add(REPO, files, **options)
    with pytest.raises(RemoteError) as caught:
        open_from(hub.endpoint, tmp_path).checkpoint()
    assert f"set `HF_ENDPOINT={hub.endpoint}` if it may have it" in (caught.value.hint or "")
    assert sent_tokens(hub) == {None}


def test_where_a_repo_comes_from_is_not_what_it_is(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], tmp_path: Path, token: str
) -> None:
    hub.add(REPO, files)
    mirrored, own = open_from(hub.endpoint, tmp_path), open_repo()
    assert mirrored.listing.identity() == own.listing.identity()
    source = {"kind": "hub", "where": "a/b", "commit": "c", "num_files": 1, "total_bytes": 1}
    assert source_text({**source, "endpoint": "https://x.org"}).endswith(", from https://x.org")
    assert "from" not in source_text({**source, "endpoint": None})


def test_what_a_mirror_lists_is_remembered_apart(
    hub: HubEmulator, files: dict[str, bytes], tmp_path: Path, token: str
) -> None:
    """A mirror that lies about a commit must not decide what the hub's files are."""
    lies = hub.add(REPO, {**files, "LICENSE": b"changed"})
    open_from(hub.endpoint, tmp_path, lies.commit).checkpoint()
    with HubEmulator() as honest:
        honest.add(REPO, files).commit = lies.commit
        honest.history[lies.commit] = honest.repos[REPO]
        listed = open_from(honest.endpoint, tmp_path, lies.commit).listing.find("LICENSE")
        assert listed is not None
        assert listed.size_bytes == len(files["LICENSE"])


def test_how_an_endpoint_is_shown() -> None:
    assert without_user("https://me:secret@a.org:1/b") == "https://a.org:1/b"
    assert without_user("http://127.0.0.1:9") == "http://127.0.0.1:9"


def test_names_of_memories() -> None:
    assert memory_name(REPO, None) == REPO
    names = [memory_name(REPO, f"https://{host}") for host in ("a.org", "a.org/b", "a.org:1", "b")]
    assert len({*names, REPO}) == 5
    assert all(name.count("/") == 2 for name in names)


@pytest.mark.parametrize(
    ("environment", "wanted", "mirror"),
    [
        (None, "https://huggingface.co/", None),
        (None, "https://a.org", "https://a.org"),
        ("https://a.org/", "https://a.org", None),
        ("https://a.org", "https://huggingface.co", "https://huggingface.co"),
        ("https://a.org", None, None),
    ],
)
def test_what_counts_as_a_mirror(
    environment: str | None,
    wanted: str | None,
    mirror: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    if environment is not None:
        monkeypatch.setenv("HF_ENDPOINT", environment)
    assert find_mirror(wanted) == mirror


def test_a_renamed_repo_is_told_not_followed(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    hub.add("acme/new", files)
    hub.renamed[REPO] = "acme/new"
    with pytest.raises(RemoteError, match="`acme/tiny` is called `acme/new` on the hub") as caught:
        open_repo()
    assert "`source.repo: acme/new`" in (caught.value.hint or "")
    assert len(hub.requests) == 1


def test_a_commit_that_was_planned_outlives_the_name(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], tmp_path: Path
) -> None:
    repo = hub.add(REPO, files)
    open_repo(repo.commit)
    hub.add("acme/new", files)
    hub.renamed[REPO] = "acme/new"
    (tmp_path / "out").mkdir()
    open_repo(repo.commit).fetch(tmp_path / "out", Silent())
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_another_host_gets_no_request(
    hub: HubEmulator, open_repo: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    location = f"{hub.other}/api/models/acme/tiny?signature=secret"
    hub.fail("hub", "/api/models", status=302, headers={"Location": location})
    with pytest.raises(RemoteError, match="to another place") as caught:
        open_repo()
    assert hub.other in caught.value.message
    assert "secret" not in caught.value.message
    assert hub.paths("other") == []


@pytest.mark.parametrize("location", ["", "#", "/api/models/acme/tiny", "//", "http://[", "\x7f"])
def test_listings_that_lead_nowhere(location: str, hub: HubEmulator, open_repo: Opener) -> None:
    hub.fail("hub", "/api/models", status=307, headers={"Location": location}, times=99)
    with pytest.raises(RemoteError) as caught:
        open_repo()
    assert caught.value.hint
    assert len(hub.requests) == 1


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_files_in_a_circle(
    method: str, hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], waits: list[float]
) -> None:
    repo = hub.add(REPO, files)
    source = open_repo()
    location = f"/acme/tiny/resolve/{repo.commit}/config.json"
    hub.fail(
        "hub", "config.json", method=method, status=302, headers={"Location": location}, times=10**6
    )
    with pytest.raises(RemoteError, match="redirects in a circle"):
        source.checkpoint()
    assert waits == []
    assert len(hub.requests) < 40


@pytest.mark.parametrize("name", ["X-Linked-Etag", "ETag"])
@pytest.mark.parametrize("etag", ['"../../../evil"', '"/etc/evil"', '""', '"a b"', "x" * 300])
def test_etags_that_lead_out_of_the_cache(
    name: str,
    etag: str,
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    tmp_path: Path,
) -> None:
    """The client names its files by them, wherever that leads."""
    hub.add(REPO, files)
    source = open_repo()
    headers = {name: etag} if name == "X-Linked-Etag" else {"X-Linked-Etag": None, name: etag}
    hub.fail("hub", WEIGHTS, method="HEAD", headers=headers)
    (tmp_path / "out").mkdir()
    with pytest.raises(RemoteError, match="that is no name for a file"):
        source.fetch(tmp_path / "out", Silent())
    assert not list(tmp_path.parent.rglob("*evil*"))


def test_an_answer_for_another_commit(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    hub.fail("hub", WEIGHTS, method="HEAD", headers={"X-Repo-Commit": "../../../x"}, times=99)
    (tmp_path / "out").mkdir()
    with pytest.raises(RemoteError, match="another commit than was asked for"):
        source.fetch(tmp_path / "out", Silent())


def test_a_listing_without_end(hub: HubEmulator, open_repo: Opener) -> None:
    body = b'{"siblings": [' + b" " * (34 << 20)
    hub.fail("hub", "/api/models", status=200, body=body)
    with pytest.raises(VerificationError, match="listing of `acme/tiny` has more than"):
        open_repo()


def test_an_error_without_end_is_not_read(hub: HubEmulator, open_repo: Opener) -> None:
    hub.fail("hub", "/api/models", status=404, body=b"x" * (64 << 20))
    with pytest.raises(RemoteError, match="HTTP 404"):
        open_repo()
    assert hub.sent_bytes < 32 << 20


def test_a_needed_file_of_absurd_size(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    repo = hub.add(REPO, files)
    siblings = [{"rfilename": "config.json", "size": -5, "blobId": "b" * 40}]
    siblings += [{"rfilename": "model.safetensors", "size": 1, "blobId": "b" * 40}]
    body = json.dumps({"sha": repo.commit, "siblings": siblings}).encode()
    hub.fail("hub", "/api/models", status=200, body=body)
    with pytest.raises(VerificationError, match="no size and digest of files") as caught:
        open_repo()
    assert caught.value.facts == ("`config.json`",)
