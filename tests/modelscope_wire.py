"""How the ModelScope emulator sends an answer, and what can go wrong with it on the way."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from modelscope_emulator import ModelScopeEmulator

ServerName = Literal["api", "cdn"]
BLOCK_BYTES = 16 << 10


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
    stalled: threading.Event | None = None
    """Ends a stall; else the end of the emulator does."""
    trickle_s: float | None = None
    ignore_range: bool = False
    length: int | None = None
    span: str | None = None
    chunked: bool = False
    more: bytes = b""
    raw: bytes | None = None


class Wire(BaseHTTPRequestHandler):
    """Sends answers of one of the servers, with the fault that this request is to meet."""

    site: ModelScopeEmulator
    server_name: ServerName
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fault: Fault | None = None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""

    def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """An answer, recorded."""
        fault = self.fault or Fault(self.server_name, "")
        body += fault.more
        self.record(status)
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
            self.send_body(body, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def send_body(self, body: bytes, fault: Fault) -> None:
        """Bytes, as far and as fast as the fault lets them."""
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
            (fault.stalled or self.site.closing).wait(600)
        if fault.reset_at is not None:
            time.sleep(0.05)  # what was sent is to arrive before the reset
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def _breaks(self, fault: Fault) -> bool:
        return any(at is not None for at in (fault.cut_at, fault.reset_at, fault.stall_at))

    def record(self, status: int) -> None:
        """Note the request, and how it was answered."""
        headers = {key.lower(): value for key, value in self.headers.items()}
        with self.site.lock:
            self.site.requests.append(Recorded(self.server_name, self.path, headers, status))
