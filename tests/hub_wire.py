"""How answers of the emulated hub go out: whole, or broken in the way that a fault says."""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Protocol

from tests.hub_repos import Answer, Asked, Body, Recorded, ServerName

BLOCK_BYTES = 64 << 10
WAIT_S = 0.05
NO_LINGER = struct.pack("ii", 1, 0)
"""Closing then resets the connection instead of ending it."""


@dataclass
class Fault:
    """What to do in place of, or to, the answers to requests that match.

    It holds for `times` requests after the first `skip`. An empty method means every method.
    """

    server: ServerName
    path_part: str = ""
    method: str = "GET"
    times: int = 1
    skip: int = 0
    on_resume: bool = False
    """Only for requests of a range that does not begin at 0."""
    early: bool = False
    """For a connection instead of a request: nothing is read before `raw` goes out."""
    name: str = ""
    hits: int = 0

    status: int | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    """With `status` all headers; without, these of the right answer differ (None: are missing)."""
    body: Body = b""
    raw: Body | None = None
    """The whole answer, head and all."""
    after: Callable[[], None] | None = None
    """Done once the answer is made: the world changes between two requests."""

    flip_at: int | None = None
    ignore_range: bool = False
    shift_range: int = 0
    """Bytes of another place come as if they were those that were asked for."""

    length: str | None = None
    """A Content-Length other than the true one; an empty one is left out."""
    chunked: bool = False
    old_protocol: bool = False
    """HTTP/1.0: the end of the connection is the end of the body."""
    before: bytes = b""
    """Comes before the answer: interim answers."""
    leaves: bool = False
    """The connection ends after the answer, which does not say so."""
    surplus: bytes = b""
    """Comes after the end of the answer, on a connection that stays open."""
    gzipped: bool = False

    pause_s: float = 0.0
    """Before the first byte."""
    trickle_s: float = 0.0
    """Between any two bytes of the body, or with `trickle_head` of the head."""
    trickle_head: bool = False
    cut_at: int | None = None
    """Bytes of the body that go out before the answer ends."""
    cut_head_at: int | None = None
    ending: Literal["close", "reset", "stall"] = "close"


class Emulated(Protocol):
    """What the servers need of the hub."""

    closing: threading.Event
    lock: threading.Lock
    requests: list[Recorded]
    crashes: list[str]
    sent_bytes: int

    def answer(self, asked: Asked) -> Answer: ...
    def take_fault(
        self, server: str, method: str, path: str, headers: Any = None, *, early: bool = False
    ) -> Fault | None: ...


class Server(ThreadingHTTPServer):
    """A server whose threads die with the process; what breaks in them is kept."""

    daemon_threads = True
    request_queue_size = 128
    hub: Emulated

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news; anything else is a fault of the emulator."""
        import sys
        import traceback

        if not isinstance(sys.exception(), OSError):
            self.hub.crashes.append(traceback.format_exc())


def start_server(hub: Emulated, name: ServerName) -> Server:
    """A server on a free port of the loopback; not yet serving."""
    handler = type("Handler", (Handler,), {"hub": hub, "server_name": name})
    server = Server(("127.0.0.1", 0), handler)
    server.hub = hub
    return server


class Handler(BaseHTTPRequestHandler):
    """One connection to one of the servers."""

    hub: Emulated
    server_name: ServerName
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""

    def handle(self) -> None:
        """Serve the connection, unless it is answered before anything is read."""
        early = self.hub.take_fault(self.server_name, "", "", early=True)
        if early is None:
            super().handle()
        else:
            self._record("EARLY", "", {}, 0)
            self._send_pieces(_blocks(early.raw or b""), early)

    def do_GET(self) -> None:
        """Answer whatever is asked."""
        size_bytes = int(self.headers.get("Content-Length") or 0)
        asked = Asked(
            self.server_name,
            self.command,
            self.path,
            {key.lower(): value for key, value in self.headers.items()},
            self.rfile.read(size_bytes) if size_bytes else b"",
        )
        fault = self.hub.take_fault(asked.server, asked.method, asked.path, asked.headers)
        fault = fault or Fault(self.server_name)
        answer = distorted(self.hub.answer, asked, fault)
        self._record(asked.method, asked.path, asked.headers, answer.status)
        if fault.after is not None:
            fault.after()
        if fault.pause_s:
            self.hub.closing.wait(fault.pause_s)
        if fault.raw is None:
            head, body = framed(answer, asked.method, fault)
            self._send_pieces(_pieces(head, body, fault), fault)
            must_close = fault.leaves or b"\r\nConnection: close\r\n" in head
        else:
            self._send_pieces(_blocks(fault.raw), fault)
            must_close = True
        self.close_connection = self.close_connection or must_close

    do_HEAD = do_GET  # noqa: N815 (the base class wants these names)
    do_POST = do_GET  # noqa: N815

    def _send_pieces(self, pieces: Iterator[bytes], fault: Fault) -> None:
        """Send, and end as the fault says; a client that goes away ends it too."""
        try:
            for piece in pieces:
                self.connection.sendall(piece)
                with self.hub.lock:
                    self.hub.sent_bytes += len(piece)
                if fault.trickle_s and self.hub.closing.wait(fault.trickle_s):
                    break
        except OSError:
            self.close_connection = True
            return
        if fault.ending == "stall":
            self._hold()
        elif fault.ending == "reset":
            self._reset()

    def _hold(self) -> None:
        """Keep the connection open until the client gives up."""
        self.close_connection = True
        while not self.hub.closing.is_set():
            if select.select([self.connection], [], [], WAIT_S)[0]:
                try:
                    if not self.connection.recv(BLOCK_BYTES):
                        return
                except OSError:
                    return

    def _reset(self) -> None:
        """End the connection by a reset; what the client has not read is lost to it."""
        self.close_connection = True
        time.sleep(WAIT_S)  # what went out before shall arrive before
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        os.close(self.connection.detach())

    def _record(self, method: str, path: str, headers: Any, status: int) -> None:
        with self.hub.lock:
            self.hub.requests.append(Recorded(self.server_name, method, path, headers, status))


def distorted(answer: Callable[[Asked], Answer], asked: Asked, fault: Fault) -> Answer:
    """The answer with what the fault changes of its meaning."""
    if fault.status is not None:
        return Answer(fault.status, fault.headers, fault.body)
    wanted = dict(asked.headers)
    if fault.ignore_range:
        wanted.pop("range", None)
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted.get("range", ""))
    if fault.shift_range and found:
        last = int(found[2]) + fault.shift_range if found[2] else ""
        wanted["range"] = f"bytes={int(found[1]) + fault.shift_range}-{last}"
    made = answer(replace(asked, headers=wanted, flip_at=fault.flip_at))
    if fault.shift_range and found and made.status == 206:
        begin, total = int(found[1]), str(made.headers["Content-Range"]).rpartition("/")[2]
        claimed = f"bytes {begin}-{begin + len(made.body) - 1}/{total}"  # type: ignore[arg-type]
        made = made.having({"Content-Range": claimed})
    made = made.having(fault.headers)
    return made.compressed() if fault.gzipped else made


def framed(answer: Answer, method: str, fault: Fault) -> tuple[bytes, Iterator[bytes]]:
    """The head of an answer, and the body as it goes over the wire."""
    headers = {name: value for name, value in answer.headers.items() if value is not None}
    whole = isinstance(answer.body, bytes)
    chunked = not fault.old_protocol and (fault.chunked or not (whole or fault.length))
    lasting = not (fault.old_protocol or fault.length is not None or fault.ending != "close")
    if fault.cut_at is not None or fault.cut_head_at is not None:
        lasting = False
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
    elif fault.length or (fault.length is None and not fault.old_protocol):
        size = str(len(answer.body)) if isinstance(answer.body, bytes) else ""
        headers["Content-Length"] = fault.length or size
    if not lasting:
        headers["Connection"] = "close"
    protocol = "HTTP/1.0" if fault.old_protocol else "HTTP/1.1"
    lines = [f"{protocol} {answer.status} Emulated", *(f"{k}: {v}" for k, v in headers.items())]
    head = fault.before + "\r\n".join([*lines, "", ""]).encode("latin-1")
    if method == "HEAD":
        return head, iter(())
    blocks = _blocks(answer.body)
    return head, _chunks(blocks) if chunked else blocks


def _pieces(head: bytes, body: Iterator[bytes], fault: Fault) -> Iterator[bytes]:
    """What goes out in one go each: the head with the first block, then the rest."""
    if fault.cut_head_at is not None or fault.trickle_head:
        sent = head[: fault.cut_head_at]
        yield from (sent[at : at + 1] for at in range(len(sent))) if fault.trickle_head else [sent]
        if fault.cut_head_at is not None:
            return
        head = b""
    left = fault.cut_at
    for block in body:
        sent = block if left is None else block[:left]
        left = left if left is None else left - len(sent)
        if fault.trickle_s:
            yield head
            yield from (sent[at : at + 1] for at in range(len(sent)))
        else:
            yield head + sent
        head = b""
        if left == 0:
            return
    if head or fault.surplus:
        yield head + fault.surplus


def _chunks(blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        if block:
            yield b"%x\r\n%s\r\n" % (len(block), block)
    yield b"0\r\n\r\n"


def _blocks(body: Body) -> Iterator[bytes]:
    if isinstance(body, bytes):
        return (body[at : at + BLOCK_BYTES] for at in range(0, len(body), BLOCK_BYTES))
    return body()
