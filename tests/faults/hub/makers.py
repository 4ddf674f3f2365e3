"""How the faults of the catalogue are made: each takes what is drawn at random, and the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from tests.faults.hub import bombs
from tests.faults.hub.content import WEIGHTS
from tests.hub_emulator import HubEmulator
from tests.hub_repos import metadata
from tests.tiny_source import REPO

Fields = dict[str, Any]
"""Fields of `Fault`."""

Maker = Callable[[Random, HubEmulator], Fields]

HTML = {"Content-Type": "text/html"}
ETAGS = (
    None,
    "",
    '"0"',
    '"../../evil"',
    "/etc/evil",
    "x" * 5000,
    "a b",
    "\xff",
    ".",
    '"' + "0" * 64 + '"',
    '"a"\r\nETag: "b"',
)
ABSURD_WISHES = (
    "1000000000", "9" * 30, "9" * 5000, "\xb2", "1e9", "nan", "inf", "\x0c7", "0x10",
    "Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 -1200", "31 Foo 99999",
    "Mon, 01 Jan 0001 00:00:00 +1400",
)  # fmt: skip
ABSURD_LIMITS: tuple[Fields, ...] = tuple(
    {"status": 429, "headers": {"RateLimit": f'"api";r=0;t={t}'}}
    for t in ("99999999", "9" * 5000, "-1", "")
)


def cut(ending: str, *, head: bool = False, late: bool = False) -> Maker:
    """The answer ends early: in its body, at the very begin of its head, or later in that."""

    def make(rng: Random, _: HubEmulator) -> Fields:
        if head:
            at = rng.randrange(9, 400) if late else rng.choice([0, 1, 5, 8])
            return {"cut_head_at": at, "ending": ending}
        return {"cut_at": rng.choice([0, 1, 20, rng.randrange(400_000)]), "ending": ending}

    return make


def fixed(**fields: Any) -> Maker:
    """Always the same fields."""
    return lambda rng, hub: dict(fields)


def one_of(*choices: Fields) -> Maker:
    """One of several sets of fields."""
    return lambda rng, hub: dict(rng.choice(choices))


def status(*statuses: int) -> Maker:
    """An answer with one of these statuses, with or without a body."""

    def make(rng: Random, _: HubEmulator) -> Fields:
        told = rng.choice([{}, HTML, {"X-Error-Message": "no"}])
        body = rng.choice([b"<html>no</html>", b""])
        return {"status": rng.choice(statuses), "headers": told, "body": body}

    return make


def flip(**fields: Any) -> Maker:
    """One bit of the file is wrong."""
    return lambda rng, hub: {
        **fields,
        "flip_at": rng.choice([0, 7, 9, 60, -1, rng.randrange(10**6)]),
    }


def wish(*wishes: str) -> Maker:
    """An answer that asks to wait, in one of these ways."""

    def make(rng: Random, _: HubEmulator) -> Fields:
        told = {"Retry-After": rng.choice(wishes)}
        return {"status": rng.choice([429, 503, 408]), "headers": told}

    return make


def location(rng: Random, hub: HubEmulator) -> Fields:
    """A redirect to where nobody should go, or that is none."""
    target = rng.choice(
        [
            "?again",
            f"{hub.endpoint}/acme/tiny/resolve/main/config.json",
            "file:///etc/passwd",
            f"{hub.other}/elsewhere",
            hub.other.replace("http:", "") + "/elsewhere",
            f"{hub.nowhere}/nothing",
            "http://user:word@127.0.0.1:1/",
            "ftp://127.0.0.1/x",
            "http://[::1",
            "http://127.0.0.1:99999/",
            "",
            "/" + "x" * 30_000,
            "\x00\xff",
            "http://127.9.9.9:1/latest/meta-data",
            "http:///no-host",
            "http://a..b/x",
            f"http://{'a' * 64}.example/x",
            "http:\\\\127.0.0.1:1\\x",
            "http://127.0.0.1:http/",
            "javascript:void(0)",
            None,
        ]
    )
    return {"status": rng.choice([301, 302, 303, 307, 308]), "headers": {"Location": target}}


def plausible_head(rng: Random, hub: HubEmulator) -> Fields:
    """A header of a weight file that is valid, but not that of the file: names, types, shapes."""
    content = hub.repos[REPO].files[rng.choice(WEIGHTS)]
    old, new = rng.choice(
        [(b"self_attn", b"selg_attn"), (b'"BF16"', b' "F16"'), (b"layers.0", b"layers.9")]
    )
    last = len(content) - 1
    told = {"Content-Range": f"bytes 0-{last}/{len(content)}"}
    return {"status": 206, "body": content.replace(old, new, 1), "headers": told}


def odd_chunks(rng: Random, hub: HubEmulator) -> Fields:
    """The listing in chunks with extensions, and fields after them that are none of its own."""
    repo = hub.repos[REPO]
    siblings = [{"rfilename": name, **metadata(repo, name)} for name in repo.files]
    text = json.dumps({"id": REPO, "sha": repo.commit, "siblings": siblings}).encode()
    step = rng.choice([100, 4096, len(text)])
    parts = [text[at : at + step] for at in range(0, len(text), step)]
    chunks = [b'%x;name="a;b";x\r\n%s\r\n' % (len(part), part) for part in parts]
    trailers = b"0;last\r\nContent-Length: 3\r\nX-Repo-Commit: none\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return {"raw": head + b"".join(chunks) + trailers}


def headers(name: str, *values: str | None) -> Maker:
    """A header with another value, or without any."""
    return lambda rng, hub: {"headers": {name: rng.choice(values)}}


def wrong_json(rng: Random, hub: HubEmulator) -> Fields:
    """JSON that is no description of a repo, or a wrong one."""
    commit = hub.repos[REPO].commit
    names = [{"rfilename": name, "size": 1, "blobId": "0" * 40} for name in ("a", "config.json")]
    documents: list[Any] = [
        None, [], {}, 7, "text", {"sha": commit}, {"id": "x", "sha": commit, "siblings": None},
        {"id": "x", "sha": None, "siblings": []}, {"id": "x", "sha": "main", "siblings": []},
        {"id": "x", "sha": "../../x", "siblings": []}, {"id": "x", "sha": commit, "siblings": [7]},
        {"id": "x", "sha": commit, "siblings": [{"rfilename": None}]},
        {"id": "x", "sha": commit, "siblings": [{"rfilename": "../../evil", "size": 1}]},
        {"id": "x", "sha": commit, "siblings": names},
        {"id": "x", "sha": commit, "siblings": [{**names[1], "size": "large"}]},
        {"id": "x", "sha": commit, "siblings": [{**names[1], "size": -1}]},
        {"id": "x", "sha": commit, "siblings": [{**names[1], "size": 10**30}]},
        {"id": "x", "sha": commit, "siblings": [{**names[1], "lfs": {"size": 1}}]},
        {"id": "x", "sha": commit, "siblings": [{**names[1], "lfs": [1]}]},
        {"id": "x", "sha": "0" * 40, "siblings": names},
    ]  # fmt: skip
    return {"status": 200, "body": json.dumps(rng.choice(documents)).encode()}


def altered_listing(rng: Random, hub: HubEmulator) -> Fields:
    """The right listing but for one thing about one file."""
    repo = hub.repos[REPO]
    siblings = [{"rfilename": name, **metadata(repo, name)} for name in repo.files]
    weights = [s for s in siblings if s["rfilename"].endswith((".safetensors", "config.json"))]
    chosen = rng.choice(weights)
    name, size = chosen["rfilename"], chosen["size"]
    changes: list[Fields] = [
        {"size": size + 1, "lfs": {**chosen.get("lfs", {}), "size": size + 1, "sha256": "0" * 64}},
        {"size": size - 1}, {"size": None}, {"size": 10**15}, {"size": -size}, {"size": 1.5},
        {"blobId": "0" * 40, "lfs": None}, {"blobId": None, "lfs": None}, {"blobId": "../../evil"},
        {"lfs": {"size": size, "sha256": "A" * 64}}, {"lfs": {"size": 10**12, "sha256": "0" * 64}},
        {"rfilename": f"../{name}"}, {"rfilename": name.upper()}, {"rfilename": ""},
        {"rfilename": "x" * 300}, {"rfilename": f"{name}/../{name}"}, {"rfilename": f"{name}\x00"},
    ]  # fmt: skip
    chosen |= rng.choice(changes)
    siblings += rng.choice([[], [], [siblings[0]], [{"rfilename": "CONFIG.json", "size": 1}]])
    document = {"id": REPO, "sha": repo.commit, "siblings": siblings}
    return {"status": 200, "body": json.dumps(document).encode()}


def broken_json(rng: Random, hub: HubEmulator) -> Fields:
    """What is no JSON, or no JSON that can be trusted."""
    begin = b'{"id": "x", "sha": "%s", "siblings": ' % hub.repos[REPO].commit.encode()
    bodies = [
        b"", b"<html>log in</html>", begin, begin + b"[" * 100_000, bombs.deep_json(100_000),
        begin + b"[]" + b"}" * 3, b"\xff\xfe{}", b"\xef\xbb\xbf{}", begin + b"[NaN]}",
        begin + b'[], "size": ' + b"9" * 6000 + b"}", begin + b'[], "siblings": []}',
        begin + b'["\\ud800"]}', b"\x1f\x8b", b"null", b"\x00" * 4096,
    ]  # fmt: skip
    return {"status": 200, "headers": rng.choice([{}, HTML]), "body": rng.choice(bodies)}


def early(rng: Random, _: HubEmulator) -> Fields:
    """An answer before the request is read."""
    raws = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\r\n" * 3,
        b"",
    ]
    return {"early": True, "raw": rng.choice(raws), "ending": rng.choice(["close", "reset"])}


def garbled(rng: Random, _: HubEmulator) -> Fields:
    """What is not HTTP, or breaks its rules."""
    raws = [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200\r\nno colon here\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nabcdefg",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"\x00: \x00\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n\x00\x01",
    ]
    return {"raw": rng.choice(raws)}


def moving(*, forgetful: bool) -> Maker:
    """After the answer the branch moves on; the old commit is gone, or not."""

    def make(rng: Random, hub: HubEmulator) -> Fields:
        terms = b"other terms %d" % rng.randrange(10**6)

        def move() -> None:
            hub.add(REPO, {**hub.history[first].files, "LICENSE": terms})
            hub.forgetful = forgetful

        first = hub.repos[REPO].commit
        return {"after": move}

    return make


def bomb_json(rng: Random, hub: HubEmulator) -> Fields:
    """A listing of some hundred MB."""
    return {"status": 200, "body": bombs.large_json(hub.repos[REPO].commit)}
