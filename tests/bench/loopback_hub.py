"""A Hugging Face Hub on loopback that serves a folder as fast as the kernel sends files.

A process of its own, so that it takes no time from what is measured: `with serving(folder) as hub`.
It answers as a hub does (listing with digests, `resolve`, a redirect of LFS files, byte ranges),
and counts requests and bytes of bodies.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

REPO = "acme/large"
COMMIT = "c" * 40
LFS_SUFFIXES = (".safetensors", "tokenizer.json")


@dataclass(frozen=True)
class Hub:
    """A hub that runs."""

    endpoint: str

    def url(self, name: str) -> str:
        """Where a file is to be had without a redirect."""
        return f"{self.endpoint}/cdn/{name}"

    def environment(self, home: Path) -> dict[str, str]:
        """That of a process whose hub this is, with a cache of its own in `home`."""
        return {
            **os.environ,
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home.absolute()),
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def counts(self) -> dict[str, int]:
        """Requests and bytes of bodies since it was last asked."""
        with urllib.request.urlopen(f"{self.endpoint}/-/counts") as answer:
            counts: dict[str, int] = json.load(answer)
        return counts


@contextmanager
def serving(folder: Path, digests: bool = True) -> Iterator[Hub]:
    """Serve the files of a folder. Without `digests`, weights have some digest, not their own."""
    command = [sys.executable, "-m", "tests.bench.loopback_hub", str(folder), str(int(digests))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield Hub(f"http://127.0.0.1:{int(server.stdout.readline())}")
        finally:
            server.terminate()


def _listing(folder: Path, digests: bool) -> bytes:
    siblings: list[dict[str, Any]] = []
    for path in sorted(folder.iterdir()):
        entry: dict[str, Any] = {"rfilename": path.name, "size": path.stat().st_size}
        if path.name.endswith(LFS_SUFFIXES):
            entry["blobId"] = "f" * 40
            entry["lfs"] = {"sha256": _sha256(path, digests), "size": entry["size"]}
        else:
            entry["blobId"] = _git_blob(path.read_bytes())
        siblings.append(entry)
    return json.dumps({"id": REPO, "sha": COMMIT, "siblings": siblings}).encode()


def _sha256(path: Path, digests: bool) -> str:
    if not digests:
        return hashlib.sha256(path.name.encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    folder: Path
    listing: bytes
    etags: dict[str, str]
    counts: dict[str, int]
    lock = threading.Lock()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts == ["-", "counts"]:
            with self.lock:
                body = json.dumps(self.counts).encode()
                self.counts.update(requests=0, bytes=0)
            self._send(200, {}, body)
            return
        self._count(requests=1)
        if parts[0] == "api":
            self._send(200, {"Content-Type": "application/json"}, self.listing)
        elif parts[0] == "cdn":
            self._send_file(self.folder / parts[1], {})
        else:
            self._resolve(parts[-1])

    def _resolve(self, name: str) -> None:
        etag = f'"{self.etags[name]}"'
        headers = {"X-Repo-Commit": COMMIT, "ETag": etag, "Accept-Ranges": "bytes"}
        if not name.endswith(LFS_SUFFIXES):
            self._send_file(self.folder / name, headers)
            return
        size = (self.folder / name).stat().st_size
        headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(size)}
        host = self.headers["Host"].replace("127.0.0.1", "localhost")
        self._send(302, {**headers, "Location": f"http://{host}/cdn/{name}"}, b"")

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._head(status, headers, len(body))
        if self.command == "GET":
            self.wfile.write(body)
            self._count(bytes=len(body))

    def _send_file(self, path: Path, headers: dict[str, str]) -> None:
        total = path.stat().st_size
        begin, end, status = 0, total, 200
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end, status = int(first), min(int(last or total) + 1, total), 206
            headers = {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{total}"}
        self._head(status, headers, end - begin)
        if self.command != "GET":
            return
        with path.open("rb") as stream:
            sent = begin
            while sent < end:
                count = os.sendfile(
                    self.connection.fileno(), stream.fileno(), sent, min(end - sent, 8 << 20)
                )
                sent += count
                self._count(bytes=count)

    def _head(self, status: int, headers: dict[str, str], num_bytes: int) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(num_bytes))
        self.end_headers()

    def _count(self, **more: int) -> None:
        with self.lock:
            for key, number in more.items():
                self.counts[key] += number


def main(folder: Path, digests: bool) -> None:
    """Serve until the process is ended; the port is the first line of output."""
    _Handler.folder, _Handler.listing = folder, _listing(folder, digests)
    _Handler.etags = {
        entry["rfilename"]: entry.get("lfs", {}).get("sha256", entry["blobId"])
        for entry in json.loads(_Handler.listing)["siblings"]
    }
    _Handler.counts = {"requests": 0, "bytes": 0}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "1")
