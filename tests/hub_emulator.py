"""A Hugging Face Hub on loopback: two servers, the hub and its CDN, that speak plain HTTP.

What the real client sends and needs was read off its source (0.36.2 and 2.4.0): model info with
`blobs`, `resolve` with its headers, a redirect to another origin for LFS files, byte ranges, the
error codes in `X-Error-Code`. Faults are injected per request; all requests are recorded.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

ServerName = Literal["hub", "cdn"]
BLOCK_BYTES = 64 << 10


@dataclass(frozen=True)
class Recorded:
    """One request as it came, and what was answered."""

    server: ServerName
    method: str
    path: str
    headers: Mapping[str, str]
    status: int


@dataclass
class Fault:
    """What to do in place of, or to, an answer; for the next `times` requests that match."""

    server: ServerName
    path_part: str
    method: str = "GET"
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    flip_at: int | None = None
    cut_at: int | None = None
    ignore_range: bool = False


@dataclass
class Repo:
    """Files of one commit, and who may see them."""

    files: dict[str, bytes]
    lfs: frozenset[str]
    commit: str
    refs: dict[str, str]
    gated: bool = False
    private: bool = False
    xet: bool = False
    hidden_digests: bool = False
    extra_names: tuple[str, ...] = ()


class HubEmulator:
    """Start with `with HubEmulator() as hub:`; add repos; read `hub.requests` afterwards."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[Recorded] = []
        self.faults: list[Fault] = []
        self.sent_bytes = 0
        self.lock = threading.Lock()
        self._servers = {name: _server(self, name) for name in ("hub", "cdn")}
        self.endpoint = self._address("hub")
        self.cdn = self._address("cdn")

    def __enter__(self) -> Self:
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def add(self, name: str, files: Mapping[str, bytes], **options: Any) -> Repo:
        """Serve a repo; weight files and `tokenizer.json` are LFS unless `lfs` says otherwise."""
        content = "".join(f"{key}\0{hashlib.sha1(files[key]).hexdigest()}" for key in sorted(files))
        commit = hashlib.sha1(content.encode()).hexdigest()
        lfs = frozenset(n for n in files if n.endswith((".safetensors", ".bin", "tokenizer.json")))
        options = {"lfs": lfs, "refs": {"main": commit}, **options}
        self.repos[name] = Repo(dict(files), commit=commit, **options)
        return self.repos[name]

    def fail(self, server: ServerName, path_part: str, **how: Any) -> None:
        """Inject a fault (see `Fault`)."""
        self.faults.append(Fault(server, path_part, **how))

    def take_fault(self, server: str, method: str, path: str) -> Fault | None:
        """The fault for a request, counted down."""
        with self.lock:
            for fault in self.faults:
                if (server, method) == (fault.server, fault.method) and fault.path_part in path:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault
        return None

    def paths(self, server: ServerName | None = None) -> list[str]:
        """`METHOD path` of the recorded requests."""
        return [f"{r.method} {r.path}" for r in self.requests if server in {None, r.server}]

    def _address(self, name: str) -> str:
        return f"http://127.0.0.1:{self._servers[name].server_address[1]}"


def _server(hub: HubEmulator, name: str) -> ThreadingHTTPServer:
    handler = type("Handler", (_Handler,), {"hub": hub, "server_name": name})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    """Answers of both servers."""

    hub: HubEmulator
    server_name: ServerName
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 10
    fault: Fault | None = None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.fault = self.hub.take_fault(self.server_name, self.command, self.path)
        if self.fault is not None and self.fault.status is not None:
            self._send(self.fault.status, self.fault.headers, self.fault.body)
            return
        path = urlsplit(self.path)
        parts = [unquote(part) for part in path.path.strip("/").split("/")]
        if self.server_name == "cdn":
            self._send_file(self._cdn_content(parts), {})
        elif parts[:2] == ["api", "models"] and "xet-read-token" in parts:
            self._send(500, {}, b"{}")
        elif parts[:2] == ["api", "models"]:
            self._info("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        elif len(parts) > 4 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._refuse(404, "NotFound")

    def _open(self, name: str, revision: str) -> Repo | None:
        """The repo, or None after an error answer."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and "Authorization" not in self.headers):
            self._refuse(401, "RepoNotFound")
        elif revision not in {repo.commit, *repo.refs}:
            self._refuse(404, "RevisionNotFound")
        else:
            return repo
        return None

    def _info(self, name: str, revision: str) -> None:
        repo = self._open(name, revision)
        if repo is None:
            return
        blobs = parse_qs(urlsplit(self.path).query).get("blobs", [""])[0].lower() == "true"
        siblings = [
            {"rfilename": file, **(_metadata(repo, file) if blobs else {})} for file in repo.files
        ] + [{"rfilename": file, "size": 1, "blobId": "0" * 40} for file in repo.extra_names]
        sha = repo.commit if revision == repo.commit else repo.refs[revision]
        document = {"id": name, "modelId": name, "sha": sha, "siblings": siblings}
        document |= {"private": repo.private, "gated": "auto" if repo.gated else False, "tags": []}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repo = self._open(name, revision)
        if repo is None:
            return
        if repo.gated and "Authorization" not in self.headers:
            self._refuse(403, "GatedRepo")
            return
        if file not in repo.files:
            self._refuse(404, "EntryNotFound", {"X-Repo-Commit": repo.commit})
            return
        headers = {"X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        if file not in repo.lfs:
            headers["ETag"] = f'"{_git_blob(repo.files[file])}"'
            self._send_file(repo.files[file], headers)
            return
        sha256 = hashlib.sha256(repo.files[file]).hexdigest()
        headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(repo.files[file]))}
        if repo.xet:
            token = f"{self.hub.endpoint}/api/models/{name}/xet-read-token/{repo.commit}"
            headers |= {"X-Xet-Hash": sha256, "Link": f'<{token}>; rel="xet-auth"'}
        location = f"{self.hub.cdn}/{quote(name)}/{quote(file)}?signature=secret"
        self._send(302, {**headers, "ETag": f'"{sha256}"', "Location": location}, b"")

    def _cdn_content(self, parts: list[str]) -> bytes:
        return self.hub.repos["/".join(parts[:2])].files["/".join(parts[2:])]

    def _send_file(self, content: bytes, headers: dict[str, str]) -> None:
        wanted = self.headers.get("Range", "")
        ranged = wanted.startswith("bytes=") and not (self.fault and self.fault.ignore_range)
        status, total = 200, len(content)
        if self.fault and self.fault.flip_at is not None:
            at = self.fault.flip_at % len(content)
            content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        if ranged:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last) + 1 if last else total, total)
            content, status = content[begin:end], 206
            headers = {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{total}"}
        self._send(status, headers, content)

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"error": code}).encode()
        self._send(status, {"X-Error-Code": code, **(headers or {})}, body)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        sent = b"" if self.command == "HEAD" else body
        if self.fault and self.fault.cut_at is not None:
            sent = sent[: self.fault.cut_at]
            self.close_connection = True
        self._record(status)
        self.end_headers()
        try:
            for begin in range(0, len(sent), BLOCK_BYTES):
                block = sent[begin : begin + BLOCK_BYTES]
                with self.hub.lock:
                    self.hub.sent_bytes += len(block)
                self.wfile.write(block)
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _record(self, status: int) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        request = Recorded(self.server_name, self.command, self.path, headers, status)
        with self.hub.lock:
            self.hub.requests.append(request)


def _metadata(repo: Repo, file: str) -> dict[str, Any]:
    content = repo.files[file]
    if repo.hidden_digests:
        return {"size": len(content)}
    if file not in repo.lfs:
        return {"size": len(content), "blobId": _git_blob(content)}
    sha256 = hashlib.sha256(content).hexdigest()
    pointer = {"size": len(content), "sha256": sha256, "pointerSize": 134}
    return {"size": len(content), "blobId": "f" * 40, "lfs": pointer}


def _git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
