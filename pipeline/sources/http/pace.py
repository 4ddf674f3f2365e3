"""Bounds of one exchange of HTTP, kept where bytes come in: no wait, and no answer, is endless.

A timeout of a socket starts anew with each byte, so that a server that sends one now and then holds
a client for ever. Here the time that was spent waiting is added up, and so are the bytes, from the
first line of the answer on: status line, headers, chunk sizes and trailers count as well. Time in
which nobody reads (a slow disk) does not count.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from dataclasses import dataclass
from typing import Any

BUFFER_BYTES = 64 << 10
NO_ANSWER, TOO_SLOW = "no answer in time", "too slow"


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds. A body brings `slow_bytes` in each `slow_s` of waiting, or is given up."""

    connect_s: float = 10.0
    answer_s: float = 60.0
    idle_s: float = 30.0
    slow_s: float = 60.0
    slow_bytes: int = 64 << 10
    redirects: int = 5


class Pace:
    """What one exchange has used up so far. `max_bytes` bounds all that is received."""

    def __init__(self, limits: Limits, max_bytes: int) -> None:
        self.limits = limits
        self.bytes_left = max_bytes
        self.answered = False
        self._waited_s = 0.0
        self._came_bytes = 0

    def start_body(self) -> None:
        """The headers are complete: from here on the rule for bodies holds."""
        self.answered = True
        self._waited_s, self._came_bytes = 0.0, 0

    def next_wait_s(self) -> float:
        """How long the next read may wait. Raises TimeoutError where nothing is left."""
        limits = self.limits
        if not self.answered:
            left_s = limits.answer_s - self._waited_s
            if left_s <= 0:
                raise TimeoutError(NO_ANSWER)
            return left_s
        if self._waited_s >= limits.slow_s:
            if self._came_bytes < limits.slow_bytes:
                raise TimeoutError(TOO_SLOW)
            self._waited_s, self._came_bytes = 0.0, 0
        return limits.idle_s

    def count(self, num_bytes: int, waited_s: float) -> None:
        """Note what a read brought. Raises ConnectionError where the answer has no end."""
        self._waited_s += waited_s
        self._came_bytes += num_bytes
        self.bytes_left -= num_bytes
        if self.bytes_left < 0:
            raise ConnectionError("an answer without end")


class PacedResponse(http.client.HTTPResponse):
    """An answer that is read at the pace of its exchange; made by a connection in place of its own.

    The standard library opens the socket as a buffered file; its buffer is put on a paced one.
    """

    def __init__(self, sock: socket.socket, *args: Any, pace: Pace, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        buffered: Any = self.fp
        paced = _PacedSocket(sock, buffered.detach(), pace)
        self.bytes_in: io.BufferedReader[Any] = io.BufferedReader(paced, BUFFER_BYTES)
        self.fp = self.bytes_in
        self.pace = pace


class _PacedSocket(io.RawIOBase):
    """The receiving side of a socket. `holder` is its file, which keeps the socket open."""

    def __init__(self, sock: socket.socket, holder: io.RawIOBase, pace: Pace) -> None:
        self._sock, self._holder, self._pace = sock, holder, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wait_s = self._pace.next_wait_s()
        if self._sock.gettimeout() != wait_s:
            self._sock.settimeout(wait_s)
        began, num_bytes = time.monotonic(), 0
        try:
            num_bytes = self._sock.recv_into(buffer)
        finally:
            self._pace.count(num_bytes, time.monotonic() - began)
        return num_bytes

    def close(self) -> None:
        if not self.closed:
            self._holder.close()
        super().close()
