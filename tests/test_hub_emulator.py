"""The emulated hub itself: what it answers, and that its faults are what they say."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from hub_emulator import HubEmulator

REPO = "acme/some"
FILES = {
    "config.json": b'{"a": 1}',
    "model.safetensors": bytes(range(256)) * 40,
    "vocab.txt": b"words " * 50,
}
LARGE = "/acme/some/model.safetensors"
TOKEN = {"Authorization": "Bearer hf_some"}


@pytest.fixture
def hub() -> Iterator[HubEmulator]:
    with HubEmulator() as emulator:
        emulator.add(REPO, FILES)
        yield emulator
        assert emulator.crashes == []


def ask(
    server: str, path: str, method: str = "GET", *, timeout_s: float = 10, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    """One request by nothing but the standard library."""
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=timeout_s)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def resolve(name: str, revision: str = "main") -> str:
    return f"/acme/some/resolve/{revision}/{name}"


def test_a_small_file_comes_from_the_hub(hub: HubEmulator) -> None:
    answer, body = ask(hub.endpoint, resolve("config.json"))
    assert (answer.status, body) == (200, FILES["config.json"])
    assert answer.headers["X-Repo-Commit"] == hub.repos[REPO].commit
    assert answer.headers["RateLimit"]
    answer, body = ask(hub.endpoint, resolve("config.json"), "HEAD")
    assert (answer.headers["Content-Length"], body) == ("8", b"")


def test_a_large_file_comes_from_the_cdn(hub: HubEmulator) -> None:
    answer, _ = ask(hub.endpoint, resolve("model.safetensors"), "HEAD")
    assert answer.status == 302
    assert answer.headers["X-Linked-Size"] == "10240"
    address = urlsplit(answer.headers["Location"])
    assert f"http://{address.netloc}" == hub.cdn
    _, body = ask(hub.cdn, f"{address.path}?{address.query}")
    assert body == FILES["model.safetensors"]


def test_a_signed_address_expires(hub: HubEmulator) -> None:
    hub.link_uses = 1
    answer, _ = ask(hub.endpoint, resolve("model.safetensors"), "HEAD")
    address = answer.headers["Location"].removeprefix(hub.cdn)
    assert [ask(hub.cdn, address)[0].status for _ in range(2)] == [200, 403]


@pytest.mark.parametrize(
    ("wanted", "status", "told", "body"),
    [
        ("bytes=0-3", 206, "bytes 0-3/10240", b"\0\1\2\3"),
        ("bytes=10238-", 206, "bytes 10238-10239/10240", b"\xfe\xff"),
        ("bytes=-1", 206, "bytes 10239-10239/10240", b"\xff"),
        ("bytes=10240-", 416, "bytes */10240", b""),
    ],
)
def test_ranges(hub: HubEmulator, wanted: str, status: int, told: str, body: bytes) -> None:
    answer, came = ask(hub.cdn, LARGE, Range=wanted)
    assert (answer.status, answer.headers["Content-Range"], came) == (status, told, body)


def test_a_renamed_repo_redirects(hub: HubEmulator) -> None:
    hub.renamed["acme/old"] = REPO
    answer, _ = ask(hub.endpoint, "/api/models/acme/old/revision/main?blobs=true")
    assert answer.status == 307
    assert answer.headers["Location"] == "/api/models/acme/some/revision/main?blobs=true"


@pytest.mark.parametrize(
    ("options", "headers", "status", "code"),
    [
        ({"gated": True}, {}, 403, "GatedRepo"),
        ({"gated": True}, TOKEN, 200, None),
        ({"gated": "strict"}, {}, 401, "GatedRepo"),
        ({"gated": "strict"}, TOKEN, 403, "GatedRepo"),
        ({"private": True}, {}, 401, "RepoNotFound"),
        ({"private": True}, TOKEN, 200, None),
        ({"disabled": True}, TOKEN, 403, ""),
        ({"cached_resolve": True}, {}, 307, None),
    ],
)
def test_who_may_see_a_file(
    hub: HubEmulator, options: dict[str, Any], headers: dict[str, str], status: int, code: str
) -> None:
    hub.add(REPO, FILES, **options)
    answer, _ = ask(hub.endpoint, resolve("config.json"), **headers)
    assert (answer.status, answer.headers["X-Error-Code"]) == (status, code)


def test_a_token_that_is_not_valid(hub: HubEmulator) -> None:
    hub.token = "hf_other"
    answer, _ = ask(hub.endpoint, resolve("config.json"), **TOKEN)
    assert answer.status == 401
    assert "Invalid credentials" in answer.headers["X-Error-Message"]


def test_an_old_commit_is_kept_unless_it_is_forgotten(hub: HubEmulator) -> None:
    old = hub.repos[REPO].commit
    hub.add(REPO, {**FILES, "config.json": b"{}"})
    assert ask(hub.endpoint, resolve("config.json", old))[1] == FILES["config.json"]
    assert ask(hub.endpoint, resolve("config.json"))[1] == b"{}"
    hub.forgetful = True
    assert ask(hub.endpoint, resolve("config.json", old))[0].status == 404


def test_the_client_reads_its_pages(hub: HubEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    hub.page_entries = 2
    api = HfApi(endpoint=hub.endpoint, token="hf_some")
    assert {entry.path for entry in api.list_repo_tree(REPO)} == set(FILES)
    assert len(hub.paths()) == 2
    (found,) = api.get_paths_info(REPO, ["model.safetensors", "missing"])
    assert (found.path, found.size) == ("model.safetensors", 10240)
    assert api.whoami()["name"] == "tester"


def test_faults_take_their_turn(hub: HubEmulator) -> None:
    hub.fail("hub", "config", skip=1, times=2, status=503, headers={"Retry-After": "1"})
    hub.fail("hub", "config", status=500)
    path = resolve("config.json")
    assert [ask(hub.endpoint, path)[0].status for _ in range(4)] == [500, 503, 503, 200]


def test_framings(hub: HubEmulator) -> None:
    for how in ({"chunked": True}, {"old_protocol": True}, {"length": ""}):
        hub.fail("cdn", LARGE, **how)
        answer, body = ask(hub.cdn, LARGE)
        assert body == FILES["model.safetensors"]
        assert "Content-Length" not in answer.headers
    hub.fail("hub", "config", gzipped=True)
    assert gzip.decompress(ask(hub.endpoint, resolve("config.json"))[1]) == FILES["config.json"]
    hub.fail("hub", "config", length="3")
    assert ask(hub.endpoint, resolve("config.json"))[1] == FILES["config.json"][:3]


def test_headers_of_a_right_answer_can_differ(hub: HubEmulator) -> None:
    hub.fail("hub", "config", headers={"etag": '"x"', "X-Repo-Commit": None})
    answer, body = ask(hub.endpoint, resolve("config.json"))
    assert body == FILES["config.json"]
    assert (answer.headers["ETag"], answer.headers["X-Repo-Commit"]) == ('"x"', None)


def test_ranges_that_are_not_what_was_asked_for(hub: HubEmulator) -> None:
    hub.fail("cdn", LARGE, ignore_range=True)
    assert len(ask(hub.cdn, LARGE, Range="bytes=0-3")[1]) == 10240
    hub.fail("cdn", LARGE, shift_range=2)
    answer, body = ask(hub.cdn, LARGE, Range="bytes=0-3")
    assert (answer.headers["Content-Range"], body) == ("bytes 0-3/10240", b"\2\3\4\5")
    hub.fail("cdn", LARGE, on_resume=True, flip_at=-1)
    assert ask(hub.cdn, LARGE)[1] == FILES["model.safetensors"]
    assert ask(hub.cdn, LARGE, Range="bytes=10239-")[1] == b"\xfe"


def test_endings(hub: HubEmulator) -> None:
    hub.fail("cdn", LARGE, cut_at=5)
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(hub.cdn, LARGE)
    assert caught.value.partial == FILES["model.safetensors"][:5]
    hub.fail("cdn", LARGE, cut_at=5, ending="reset")
    with pytest.raises(ConnectionResetError):
        ask(hub.cdn, LARGE)
    hub.fail("cdn", LARGE, cut_head_at=0)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(hub.cdn, LARGE)
    hub.fail("cdn", LARGE, cut_at=5, ending="stall")
    with pytest.raises(TimeoutError):
        ask(hub.cdn, LARGE, timeout_s=0.3)


def test_an_answer_before_the_request(hub: HubEmulator) -> None:
    hub.fail("hub", "", early=True, raw=b"HTTP/1.1 408 Early\r\n\r\n")
    with socket.create_connection(("127.0.0.1", urlsplit(hub.endpoint).port or 0), 10) as sock:
        assert sock.recv(100).startswith(b"HTTP/1.1 408")
    assert ask(hub.endpoint, resolve("config.json"))[0].status == 200


def test_a_body_that_is_made_on_the_way(hub: HubEmulator) -> None:
    hub.fail("hub", "config", status=200, body=lambda: iter([b"x" * 1000] * 5000))
    assert len(ask(hub.endpoint, resolve("config.json"))[1]) == 5_000_000
    hub.fail("hub", "config", raw=lambda: iter([b"HTTP/1.1 200 OK\r\n"] + [b"A: b\r\n"] * 200))
    with pytest.raises(http.client.HTTPException, match="more than 100 headers"):
        ask(hub.endpoint, resolve("config.json"))


def test_the_world_changes_between_two_requests(hub: HubEmulator) -> None:
    hub.fail("hub", "/api/", after=lambda: hub.repos[REPO].refs.update(v2="0" * 40))
    for known in (False, True):
        path = "/api/models/acme/some/revision/v2"
        answer, body = ask(hub.endpoint, path)
        assert (answer.status == 200) == known, json.loads(body)


def test_nobody_listens_nowhere(hub: HubEmulator) -> None:
    with pytest.raises(ConnectionRefusedError):
        ask(hub.nowhere, "/")
    assert ask(hub.other, "/x")[0].status == 200
    assert hub.paths("other") == ["GET /x"]
