"""The variables by which users set the hub client: what it cannot read is told before it is asked.

The client reads them while it is imported, and fails there with errors that do not name them.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import MachineError
from pipeline.redaction import token_files
from pipeline.sources.http.addresses import is_web_address
from pipeline.system.refusals import file_error

SECONDS = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
CERTIFICATES = {
    "requests": ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "httpx": ("SSL_CERT_FILE",),
}
"""By the library that the client speaks HTTP by: requests before its version 1."""

TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
MAX_TOKEN_CHARS = 4096
TOKEN_HINT = "copy it again from the hub, as one word (`hf auth login`), or remove it"  # noqa: S105

SOCKS_PACKAGES = ("socksio", "socks")
"""Of httpx, and of requests (PySocks)."""


def check_settings(environment: Mapping[str, str] = os.environ) -> None:
    """Raise MachineError for a variable that the client would fail on."""
    for name in SECONDS:
        text = environment.get(name, "0").strip()
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise MachineError(
                f"`{name}` is `{text[:40]}`, which is no number of seconds",
                hint="set it to a whole number, such as 30, or remove it",
            )
    endpoint = environment.get("HF_ENDPOINT")
    if endpoint is not None and not _is_endpoint(endpoint):
        raise MachineError(
            "`HF_ENDPOINT` is not the address of a hub",
            hint="set it to one such as `https://huggingface.co`, or remove it",
        )
    for name in PROXIES:
        proxy = environment.get(name) or environment.get(name.lower()) or ""
        address = proxy if "://" in proxy else f"http://{proxy}"
        if proxy and not _is_address(address, ("http", "https", "socks4", "socks5", "socks5h")):
            raise MachineError(
                f"`{name}` is not the address of a proxy",
                hint="set it to one such as `http://proxy.example.org:3128`, or remove it",
            )
        if proxy.lower().startswith("socks") and not any(map(find_spec, SOCKS_PACKAGES)):
            raise MachineError(
                f"`{name}` names a SOCKS proxy, for which a package is missing",
                hint="`pip install socksio` (huggingface_hub 1 and later) or `PySocks` (before), "
                "or name an HTTP proxy",
            )
    _check_certificates(environment)
    _check_token(environment)


def _check_token(environment: Mapping[str, str]) -> None:
    """The client puts a token into a header as it is, and reads a file of any kind and size.

    Variables before the file, as it does (`utils/_auth.py`, 0.36 and 2.4).
    """
    for name in TOKENS:
        if token := _cleaned(environment.get(name, "")):
            if not _is_token(token):
                raise MachineError(f"`{name}` is not a token", hint=TOKEN_HINT)
            return
    path = token_files(environment)[0]
    try:
        found = path.stat()
        is_token = stat.S_ISREG(found.st_mode) and found.st_size <= MAX_TOKEN_CHARS
        is_token = is_token and _is_token(_cleaned(path.read_text(encoding="ascii")))
    except FileNotFoundError:
        return
    except ValueError:
        is_token = False
    except OSError as error:
        raise file_error(error, path, "cannot be read") from None
    if not is_token:
        raise MachineError(f"the file `{path}` holds no token", hint=TOKEN_HINT)


def _cleaned(token: str) -> str:
    return token.replace("\r", "").replace("\n", "").strip()


def _is_token(token: str) -> bool:
    return len(token) <= MAX_TOKEN_CHARS and token.isascii() and token.isprintable()


def _check_certificates(environment: Mapping[str, str]) -> None:
    """The HTTP libraries load what these name for the first request, and fail without its name."""
    for name in CERTIFICATES["requests" if client_major() < 1 else "httpx"]:
        path = environment.get(name)
        if not path or (name != "SSL_CERT_FILE" and Path(path).is_dir()):
            continue
        try:
            ssl.create_default_context(cafile=path)
        except OSError as error:  # SSLError is one
            raise MachineError(
                f"`{name}` names no certificates that can be loaded: `{path}`",
                facts=[error.strerror or type(error).__name__],
                hint="set it to a file of certificates in PEM format, or remove it",
            ) from None


def client_major() -> int:
    """The major version of the hub client, told without importing it."""
    return int(version("huggingface_hub").partition(".")[0])


def _is_endpoint(text: str) -> bool:
    parts = urlsplit(text) if _is_address(text) else None
    return parts is not None and is_web_address(text) and not (parts.query or parts.fragment)


def _is_address(text: str, schemes: tuple[str, ...] = ("http", "https")) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    is_plain = text.isascii() and text.isprintable() and " " not in text
    return is_plain and parts.scheme in schemes and bool(parts.hostname) and port != 0
