"""Which addresses may be asked: https, and plain http on loopback where the first one was there.

A redirect is an answer of somebody else. It never gets our token unless it leads to the very origin
that the token is for, and never leads from https to http or from the network to this machine.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urljoin, urlsplit

MAX_ADDRESS = 16 << 10
"""Signed addresses of a CDN have some hundred characters."""

PORTS = {"https": 443, "http": 80}


class Misdirected(Exception):
    """An address that is not asked; the text says why, and never has more of it than its host."""


def check_address(address: str, *, loopback: bool) -> SplitResult:
    """The parts of an address that may be asked. Raises Misdirected.

    `loopback`: this machine may be asked, which is where the first address has led already; it is
    the only one that may be asked by plain http.
    """
    if len(address) > MAX_ADDRESS or not all("!" <= letter <= "~" for letter in address):
        raise Misdirected("an address that is not one")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Misdirected("an address that is not one") from None
    if parts.scheme not in PORTS:
        raise Misdirected(f"an address of the kind `{parts.scheme[:20]}`")
    if not host or not _is_host(host) or port == 0:
        raise Misdirected("an address without a host")
    if parts.username is not None or parts.password is not None:
        raise Misdirected("an address with a name and password in it")
    if is_loopback(host) and not loopback:
        raise Misdirected(f"`{host}`, which is this machine")
    if parts.scheme == "http" and not is_loopback(host):
        raise Misdirected(f"`{host}` without encryption")
    return parts


def is_web_address(address: str) -> bool:
    """Whether an address names a host to be asked by http or https, as far as can be seen."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    is_plain = all(letter.isprintable() for letter in address)
    return is_plain and parts.scheme in PORTS and bool(host) and _is_host(host or "") and port != 0


def origin(parts: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port: what a token is for."""
    assert parts.hostname is not None
    return parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme]


def redirected(address: str, location: str | None) -> str:
    """Where a redirect leads. Raises Misdirected where it does not say."""
    if not location:
        raise Misdirected("nowhere")
    try:
        return urljoin(address, location.strip())
    except ValueError:
        raise Misdirected("an address that is not one") from None


def _is_host(host: str) -> bool:
    """A number, or a name that can be looked up; other ones make Python's resolver stumble."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        labels = host.removesuffix(".").split(".")
        return len(host) <= 253 and all(1 <= len(label) <= 63 for label in labels)
    return True


def is_loopback(host: str) -> bool:
    """A name or number that stands for this machine."""
    if host.rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
