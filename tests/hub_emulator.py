"""A Hugging Face Hub on loopback: the hub, its CDN and a stranger, that speak plain HTTP.

What the real client sends and needs was read off its source (0.36.2 and 2.4.0). `hub_answers` has
what is answered where nothing is wrong; faults are injected per request (`hub_wire`), or answer a
connection before it is read; all requests are recorded.
"""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from tests.hub_answers import PAGE_ENTRIES, answer
from tests.hub_repos import Answer, Asked, Recorded, Repo, ServerName
from tests.hub_wire import Fault, start_server

__all__ = ["Fault", "HubEmulator", "Recorded", "Repo", "ServerName"]

SERVERS: tuple[ServerName, ...] = ("hub", "cdn", "other")
SIGNATURE = "secret"
"""How every signature begins: it must not show anywhere but in requests."""


class HubEmulator:
    """Start with `with HubEmulator() as hub:`; add repos; read `hub.requests` afterwards."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.renamed: dict[str, str] = {}
        """Old name of a repo -> new one."""
        self.history: dict[str, Repo] = {}
        """Every commit that was ever added."""
        self.forgetful = False
        """Whether only the newest commit of a repo can be had."""
        self.token: str | None = None
        """The one token that is valid; None takes any."""
        self.link_uses: int | None = None
        """How often a signed address of the CDN works; None: for ever."""
        self.page_entries = PAGE_ENTRIES
        self.requests: list[Recorded] = []
        self.faults: list[Fault] = []
        self.crashes: list[str] = []
        """Tracebacks of the emulator itself: there must be none."""
        self.sent_bytes = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._uses: dict[str, int] = {}
        self._servers = {name: start_server(self, name) for name in SERVERS}
        self.endpoint = self._address("hub")
        self.cdn = self._address("cdn")
        self.other = self._address("other")
        self._deaf = socket.socket()
        self._deaf.bind(("127.0.0.1", 0))
        self.nowhere = f"http://127.0.0.1:{self._deaf.getsockname()[1]}"
        """An address that refuses connections."""

    def __enter__(self) -> Self:
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._deaf.close()
        for server in self._servers.values():
            if server.socket.fileno() != -1:  # not hung up before
                server.shutdown()
                server.server_close()

    @contextmanager
    def hung_up(self) -> Iterator[None]:
        """Nobody answers at its ports any more, nor anybody else: they stay taken meanwhile."""
        places = [server.server_address for server in self._servers.values()]
        self.__exit__()
        with ExitStack() as stack:
            for place in places:
                taken = stack.enter_context(socket.socket())
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                taken.bind(place)
            yield

    def add(self, name: str, files: Mapping[str, bytes], **options: Any) -> Repo:
        """Serve a repo; weight files and `tokenizer.json` are LFS unless `lfs` says otherwise."""
        content = "".join(f"{key}\0{hashlib.sha1(files[key]).hexdigest()}" for key in sorted(files))
        commit = hashlib.sha1(content.encode()).hexdigest()
        lfs = frozenset(n for n in files if n.endswith((".safetensors", ".bin", "tokenizer.json")))
        options = {"lfs": lfs, "refs": {"main": commit}, **options}
        self.repos[name] = self.history[commit] = Repo(dict(files), commit=commit, **options)
        return self.repos[name]

    def fail(self, server: ServerName, path_part: str, **how: Any) -> None:
        """Inject a fault (see `Fault`)."""
        self.faults.append(Fault(server, path_part, **how))

    def take_fault(
        self,
        server: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        early: bool = False,
    ) -> Fault | None:
        """The fault for a request (or, with `early`, for a connection), counted down."""
        with self.lock:
            for fault in self.faults:
                if not _matches(fault, server, method, path, headers or {}, early):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                fault.hits += 1
                if fault.times <= 0:
                    self.faults.remove(fault)
                return fault
        return None

    def paths(self, server: ServerName | None = None) -> list[str]:
        """`METHOD path` of the recorded requests."""
        return [f"{r.method} {r.path}" for r in self.requests if server in {None, r.server}]

    def answer(self, asked: Asked) -> Answer:
        """What is right to answer."""
        return answer(self, asked)

    def sign(self) -> str:
        """A signature for an address of the CDN."""
        with self.lock:
            signature = f"{SIGNATURE}{len(self._uses) + 1}"
            self._uses[signature] = 0
        return signature

    def is_expired(self, signature: str) -> bool:
        """Whether an address that the hub signed was used as often as it may; counts this use."""
        with self.lock:
            if signature not in self._uses:
                return False
            self._uses[signature] += 1
            return self.link_uses is not None and self._uses[signature] > self.link_uses

    def _address(self, name: ServerName) -> str:
        return f"http://127.0.0.1:{self._servers[name].server_address[1]}"


def _matches(
    fault: Fault, server: str, method: str, path: str, headers: Mapping[str, str], early: bool
) -> bool:
    if fault.server != server or fault.early != early:
        return False
    if early:
        return True
    resumes = headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0] != "0"
    fits = fault.method in {"", method} and fault.path_part in path
    return fits and (resumes or not fault.on_resume)
