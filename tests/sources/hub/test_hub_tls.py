"""A certificate that nobody vouches for, through the real client: refused at once, and told."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hub_emulator import HubEmulator
from tiny_source import REPO

from pipeline.errors import RemoteError
from pipeline.sources.hub.client import HubClient
from pipeline.sources.retry import RetryPolicy

OPENSSL = shutil.which("openssl")


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """A server that gets no further than its certificate."""
    assert OPENSSL is not None
    pem = tmp_path / "self.pem"
    key = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=hub"
    command = [OPENSSL, *key.split(), "-keyout", pem, "-out", tmp_path / "crt"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", pem)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=120)


@pytest.mark.skipif(OPENSSL is None, reason="no openssl to make a certificate")
def test_a_certificate_that_nobody_vouches_for(
    endpoint: str, hub: HubEmulator, tmp_path: Path
) -> None:
    waits: list[float] = []
    client = HubClient(REPO, endpoint, tmp_path / "cache", False, RetryPolicy(sleep=waits.append))
    with pytest.raises(RemoteError, match=r"the certificate of `127\S+` is not trusted") as caught:
        client.describe("main")
    assert not waits, "another attempt cannot help"
    assert caught.value.hint
