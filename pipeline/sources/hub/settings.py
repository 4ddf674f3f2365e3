"""The variables by which users set the hub client: what it cannot read is told before it is asked.

The client reads them while it is imported, and fails there with errors that do not name them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import urlsplit

from pipeline.errors import MachineError

SECONDS = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
SOCKS_PACKAGES = ("socksio", "socks")
"""Of httpx, and of requests (PySocks)."""


def check_settings(environment: Mapping[str, str] = os.environ) -> None:
    """Raise MachineError for a variable that the client would fail on."""
    for name in SECONDS:
        text = environment.get(name, "").strip()
        if text and not (text.isascii() and text.isdigit() and len(text) < 10):
            raise MachineError(
                f"`{name}` is `{text[:40]}`, which is no number of seconds",
                hint="set it to a whole number, such as 30, or remove it",
            )
    endpoint = environment.get("HF_ENDPOINT")
    if endpoint is not None and not _is_address(endpoint):
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


def _is_address(text: str, schemes: tuple[str, ...] = ("http", "https")) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    is_plain = text.isascii() and text.isprintable() and " " not in text
    return is_plain and parts.scheme in schemes and bool(parts.hostname) and port != 0
