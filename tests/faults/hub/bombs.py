"""Bodies that are too large, too deep or not what they seem; large ones are made block by block."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator

MANY_BYTES = 300_000_000
BLOCK = 1 << 16

INTERIM_100 = b"HTTP/1.1 100 Continue\r\n\r\n"
INTERIM_103 = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
OK_HEAD = b"HTTP/1.1 200 OK\r\n"


def repeated(
    begin: bytes, block: bytes, num_bytes: int, end: bytes = b""
) -> Callable[[], Iterator[bytes]]:
    """A body of about `num_bytes`: a begin, a block again and again, an end."""

    def blocks() -> Iterator[bytes]:
        yield begin
        large = block * (BLOCK // len(block) + 1)
        for _ in range(num_bytes // len(large)):
            yield large
        yield end

    return blocks


def large_json(commit: str) -> Callable[[], Iterator[bytes]]:
    """A description of a repo with millions of files."""
    begin = b'{"id": "acme/tiny", "sha": "%s", "tags": [], "siblings": [' % commit.encode()
    entry = b'{"rfilename": "config.json", "size": 1, "blobId": "%s"},' % (b"0" * 40)
    return repeated(begin, entry, MANY_BYTES, b"{}]}")


def deep_json(depth: int) -> bytes:
    """Nested lists."""
    return b'{"siblings": ' + b"[" * depth + b"]" * depth + b"}"


def gzip_bomb(num_bytes: int = MANY_BYTES) -> bytes:
    """A small gzip file of very many spaces, which JSON allows."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * (1 << 20)
    packed = b"".join(packer.compress(block) for _ in range(num_bytes >> 20))
    return packed + packer.flush()


def many_headers(count: int) -> Callable[[], Iterator[bytes]]:
    """An answer with a great many headers."""
    return repeated(OK_HEAD, b"X-Bomb: 0123456789abcdef\r\n", count * 26, b"\r\n")


def long_header(num_bytes: int) -> Callable[[], Iterator[bytes]]:
    """An answer with one very long header line."""
    return repeated(OK_HEAD + b"X-Bomb: ", b"x", num_bytes, b"\r\nContent-Length: 0\r\n\r\n")


def many_hints(count: int) -> Callable[[], Iterator[bytes]]:
    """Interim answers without end, before the real one."""
    return repeated(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", count * 40)


def claimed_header(num_bytes: int) -> bytes:
    """The length field of a weight file whose header would have so many bytes."""
    return struct.pack("<Q", num_bytes)


def weight_head(document: object) -> bytes:
    """A weight file that is nothing but a header."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return struct.pack("<Q", len(text)) + text


HOSTILE_HEADS: dict[str, bytes] = {
    "header of 99 MB": claimed_header(99_000_000) + b"{" + b" " * 4096,
    "header of 2^63": claimed_header(1 << 63),
    "deep header": weight_head(b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    "header with twice a name": weight_head(
        b'{"a":{"dtype":"BF16","shape":[0],"data_offsets":[0,0]},'
        b'"a":{"dtype":"BF16","shape":[0],"data_offsets":[0,0]}}'
    ),
    "header with huge numbers": weight_head(
        b'{"a":{"dtype":"BF16","shape":[%s],"data_offsets":[0,0]}}' % (b"9" * 6000)
    ),
    "header with hostile names": weight_head(
        {"../../x\0": {"dtype": "BF16", "shape": [0], "data_offsets": [0, 0]}}
    ),
    "header with negative offsets": weight_head(
        {"a": {"dtype": "BF16", "shape": [0], "data_offsets": [-8, -8]}}
    ),
}
"""Weight files that are published as they are, digest and all: none of them may be planned with."""


GZIPPED = gzip_bomb()
GZIP: dict[str, str | None] = {"Content-Encoding": "gzip"}
ENDLESS = repeated(b"", b"\0" * BLOCK, MANY_BYTES)
ENDLESS_HEAD = repeated(claimed_header(90_000_000), b" " * BLOCK, MANY_BYTES)
