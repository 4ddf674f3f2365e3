"""A ModelScope on loopback: two servers, the site and its CDN, that speak plain HTTP.

What its clients send and need was read off their sources (`modelscope` 1.31.0; 1.40.2 with
`modelscope_hub` 0.5.1), and both were run against this one: 1.40.2 by `test_modelscope_real.py`,
and `model_info`, `list_repo_commits` and `model_file_download` of 1.31.0 by hand. The codes of
errors, the cut at 3000 entries and the silence about unknown parameters are those of the site, as
others have measured them.
Faults are injected per request; all requests are recorded.
"""

from __future__ import annotations

import functools
import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

ServerName = Literal["api", "cdn"]
BLOCK_BYTES = 16 << 10
MAX_ENTRIES = 3000
CODES = {"missing": 10010205001, "refused": 10010200001, "no tree": 10990101004}


@dataclass(frozen=True)
class Recorded:
    """One request as it came, and what was answered."""

    server: ServerName
    path: str
    headers: Mapping[str, str]
    status: int


@dataclass
class Fault:
    """What to do in place of, or to, an answer; for the next `times` requests that match.

    Offsets count bytes of the body. `length` is announced in place of the true one (-1: none, the
    body ends with the connection), `span` in place of the range that was asked for; `raw` is all
    that is sent, with no HTTP around it.
    """

    server: ServerName
    path_part: str
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    flip_at: int | None = None
    cut_at: int | None = None
    reset_at: int | None = None
    stall_at: int | None = None
    trickle_s: float | None = None
    ignore_range: bool = False
    length: int | None = None
    span: str | None = None
    chunked: bool = False
    more: bytes = b""
    raw: bytes | None = None


@dataclass
class Repo:
    """Files by commit, what branches and tags stand for, and who may see them."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    lfs: frozenset[str] = frozenset()
    token: str | None = None
    hidden_digests: bool = False
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Keys of a file's entry in listings that are not as they should be."""


class ModelScopeEmulator:
    """Start with `with ModelScopeEmulator() as site:`; add repos; read `site.requests` later."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[Recorded] = []
        self.faults: list[Fault] = []
        self.sent_bytes = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._servers = {name: _server(self, name) for name in ("api", "cdn")}
        self.endpoint = self._address("api")
        self.cdn = self._address("cdn")

    def __enter__(self) -> Self:
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def add(self, name: str, files: Mapping[str, bytes], **options: Any) -> Repo:
        """Serve a repo, whose `master` has these files; weight files are LFS."""
        commit = commit_of(files)
        options.setdefault("lfs", frozenset(n for n in files if n.endswith(".safetensors")))
        self.repos[name] = Repo({commit: dict(files)}, {"master": commit}, **options)
        return self.repos[name]

    def fail(self, server: ServerName, path_part: str, **how: Any) -> None:
        """Inject a fault (see `Fault`)."""
        self.faults.append(Fault(server, path_part, **how))

    def take_fault(self, server: str, path: str) -> Fault | None:
        """The fault for a request, counted down."""
        with self.lock:
            for fault in self.faults:
                if server == fault.server and fault.path_part in unquote(path):
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault
        return None

    def paths(self, server: ServerName | None = None) -> list[str]:
        """Paths of the recorded requests."""
        return [unquote(r.path) for r in self.requests if server in {None, r.server}]

    def _address(self, name: str) -> str:
        return f"http://127.0.0.1:{self._servers[name].server_address[1]}"


@functools.lru_cache(maxsize=256)
def digest_of(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def commit_of(files: Mapping[str, bytes]) -> str:
    """A commit id that follows from the files."""
    content = "".join(f"{key}\0{hashlib.sha1(files[key]).hexdigest()}" for key in sorted(files))
    return hashlib.sha1(content.encode()).hexdigest()


def _server(site: ModelScopeEmulator, name: str) -> ThreadingHTTPServer:
    handler = type("Handler", (_Handler,), {"site": site, "server_name": name})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    return server


class _Handler(BaseHTTPRequestHandler):
    """Answers of both servers."""

    site: ModelScopeEmulator
    server_name: ServerName
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fault: Fault | None = None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""

    def do_GET(self) -> None:
        self.fault = self.site.take_fault(self.server_name, self.path)
        if self.fault is not None and self.fault.raw is not None:
            self._record(0)
            self.close_connection = True
            with suppress(BrokenPipeError, ConnectionResetError):
                self._send_body(self.fault.raw, self.fault)
            return
        if self.fault is not None and self.fault.status is not None:
            self._send(self.fault.status, self.fault.headers, self.fault.body)
            return
        path = urlsplit(self.path)
        parts = [unquote(part) for part in path.path.strip("/").split("/")]
        query = {key: values[0] for key, values in parse_qs(path.query).items()}
        if self.server_name == "cdn":
            self._send_file(self._by_digest(parts[-1]))
        elif parts[:3] == ["api", "v1", "models"] and len(parts) >= 5:
            self._answer("/".join(parts[3:5]), "/".join(parts[5:]), query)
        else:
            self._refuse("missing")

    def _answer(self, name: str, what: str, query: Mapping[str, str]) -> None:
        repo = self.site.repos.get(name)
        if repo is None:
            self._refuse("missing")
        elif repo.token is not None and not self._knows(repo.token):
            self._refuse("refused")
        elif what == "":
            owner, _, own_name = name.partition("/")
            self._send_json({"Id": 1, "Name": own_name, "Path": owner})
        elif what == "revisions":
            kinds = {"Branches": repo.branches, "Tags": repo.tags}
            rows = {k: [{"Revision": n, "CreatedAt": 1} for n in v] for k, v in kinds.items()}
            self._send_json({"RevisionMap": {k: v or None for k, v in rows.items()}})
        elif what == "commits":
            commit = _resolve(repo, query.get("Ref", "master"))
            # A parameter that is not known leaves the site with the main branch.
            shown = [{"Id": commit, "ShortId": commit[:8], "Title": "x"}] if commit else None
            self._send_json({"Commit": shown, "TotalCount": len(repo.commits)})
        elif what == "repo/files":
            self._list(repo, query)
        elif what == "repo":
            self._send_repo_file(name, repo, query)
        else:
            self._refuse("missing")

    def _knows(self, token: str) -> bool:
        cookies = f"m_session_id={token}" in self.headers.get("Cookie", "")
        return cookies or self.headers.get("Authorization") == f"Bearer {token}"

    def _list(self, repo: Repo, query: Mapping[str, str]) -> None:
        commit = _resolve(repo, query.get("Revision", "master"))
        if commit is None:
            self._refuse("no tree")
            return
        root, deep = query.get("Root", ""), query.get("Recursive", "False") == "True"
        entries = _tree(repo, commit, root, deep)[:MAX_ENTRIES]
        latest = {"Id": commit, "ShortId": commit[:8]}
        self._send_json({"Files": entries or None, "IsVisual": 0, "LatestCommitter": latest})

    def _send_repo_file(self, name: str, repo: Repo, query: Mapping[str, str]) -> None:
        commit = _resolve(repo, query.get("Revision", "master"))
        file = query.get("FilePath", "")
        if commit is None or file not in repo.commits[commit]:
            self._refuse("missing")
            return
        content = repo.commits[commit][file]
        if file not in repo.lfs:
            # Small files come from git, and always whole.
            self.headers.replace_header("Range", "") if "Range" in self.headers else None
            self._send_file(content)
            return
        digest = digest_of(content)
        location = f"{self.site.cdn}/lfs/{quote(name)}/{digest}?Signature=secret"
        self._send(302, {"Location": location, "X-Linked-ETag": f'"{digest}"'}, b"")

    def _by_digest(self, digest: str) -> bytes:
        return next(
            content
            for repo in self.site.repos.values()
            for files in repo.commits.values()
            for content in files.values()
            if digest_of(content) == digest
        )

    def _send_file(self, content: bytes) -> None:
        fault, wanted = self.fault, self.headers.get("Range", "")
        status, headers, total = 200, {"Accept-Ranges": "bytes"}, len(content)
        if fault and fault.flip_at is not None:
            at = fault.flip_at % total
            content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        if wanted.startswith("bytes=") and not (fault and fault.ignore_range):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last) + 1 if last else total, total)
            if begin >= total:
                self._send(416, {"Content-Range": f"bytes */{total}"}, b"")
                return
            content, status = content[begin:end], 206
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{total}"
        if fault and fault.span is not None:
            headers["Content-Range"], status = fault.span, 206
        self._send(status, headers, content)

    def _send_json(self, data: Any, status: int = 200, code: int = 200) -> None:
        well = code == 200
        document = {"Code": code, "Data": data, "Message": "success" if well else "失败"}
        document |= {"RequestId": "0", "Success": well}
        body = json.dumps(document).encode()
        self._send(status, {"Content-Type": "application/json; charset=utf-8"}, body)

    def _refuse(self, reason: str) -> None:
        self._send_json(None, 404, CODES[reason])

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        fault = self.fault or Fault(self.server_name, "")
        body += fault.more
        self._record(status)
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if fault.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif fault.length != -1:
            self.send_header(
                "Content-Length", str(len(body) if fault.length is None else fault.length)
            )
        if fault.length == -1 or self._breaks(fault):
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        try:
            self._send_body(body, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _send_body(self, body: bytes, fault: Fault) -> None:
        stops = [at for at in (fault.cut_at, fault.reset_at, fault.stall_at) if at is not None]
        step = 1 if fault.trickle_s is not None else BLOCK_BYTES
        sent = body[: min(stops)] if stops else body
        for begin in range(0, len(sent), step):
            block = sent[begin : begin + step]
            with self.site.lock:
                self.site.sent_bytes += len(block)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if fault.chunked else block)
            if fault.trickle_s is not None and self.site.closing.wait(fault.trickle_s):
                return
        if fault.chunked and not stops:
            self.wfile.write(b"0\r\n\r\n")
        if fault.stall_at is not None:
            self.site.closing.wait(20)
        if fault.reset_at is not None:
            time.sleep(0.05)  # what was sent is to arrive before the reset
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def _breaks(self, fault: Fault) -> bool:
        return any(at is not None for at in (fault.cut_at, fault.reset_at, fault.stall_at))

    def _record(self, status: int) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        with self.site.lock:
            self.site.requests.append(Recorded(self.server_name, self.path, headers, status))


def _resolve(repo: Repo, revision: str) -> str | None:
    if revision in repo.commits:
        return revision
    return repo.branches.get(revision) or repo.tags.get(revision)


def _tree(repo: Repo, commit: str, root: str, deep: bool) -> list[dict[str, Any]]:
    """Entries of the folder `root`, folders first; all below it where `deep`."""
    files = {n: c for n, c in repo.commits[commit].items() if not root or n.startswith(f"{root}/")}
    begin = len(root) + 1 if root else 0
    folders: set[str] = set()
    for name in files:
        parts = name[begin:].split("/")[:-1]
        folders |= {name[:begin] + "/".join(parts[: end + 1]) for end in range(len(parts))}
    rows = [_entry(folder, commit, None) for folder in sorted(folders)]
    for name, content in files.items():
        row = _entry(name, commit, content) | {"IsLFS": name in repo.lfs}
        if repo.hidden_digests:
            row["Sha256"] = ""
        rows.append(row | repo.changes.get(name, {}))
    return [row for row in rows if deep or "/" not in row["Path"][begin:]]


def _entry(path: str, commit: str, content: bytes | None) -> dict[str, Any]:
    return {
        "CommitId": "",
        "CommitMessage": "Upload",
        "CommittedDate": 1726000000,
        "CommitterName": "acme",
        "InCheck": False,
        "IsLFS": False,
        "Mode": "33188",
        "Name": path.rpartition("/")[2],
        "Path": path,
        "Revision": commit,
        "Sha256": "" if content is None else digest_of(content),
        "Size": 0 if content is None else len(content),
        "Type": "tree" if content is None else "blob",
    }
