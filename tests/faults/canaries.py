"""Canary secrets: where they are put, and whether one is found again in anything written."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, quote_plus

VARIABLES = {
    "HF_TOKEN": "canary/of+HF_TOKEN 1",
    "HUGGING_FACE_HUB_TOKEN": "canary-of-the-older-name-2",
    "MODELSCOPE_API_TOKEN": "ms-c0ffee00-cafe-4bad-8f00-00ca11ab1e00",
    "AWS_SECRET_ACCESS_KEY": "canaryOfTheCloudKey4",
    "DB_PASSWORD": "canary-pässword-5",
    "SIGNING_SECRET": 'canary "quoted" \\ 6',
    "HTTPS_PROXY": "http://canary-user:canary-proxy-pass-7@127.0.0.1:1",
}
"""Variables that hold a secret each; the token of the hub is the one that requests must carry."""

TOKEN_FILE = "canary-of-the-token-file-8"
SIGNATURE = "canarySignature9"
"""In the signed addresses of a CDN."""
MIRROR_PASSWORD = "canary-mirror-pass-10"
"""In the address of the hub."""


def environment(home: Path) -> dict[str, str]:
    """The variables of a command with canaries everywhere, and a home whose token file has one."""
    cache = home / "hf"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "token").write_text(TOKEN_FILE + "\n")
    return {**VARIABLES, "HOME": str(home), "HF_HOME": str(cache)}


def secrets() -> list[str]:
    """Every canary; of an address, its password."""
    plain = [value for name, value in VARIABLES.items() if name != "HTTPS_PROXY"]
    return [*plain, "canary-proxy-pass-7", TOKEN_FILE, SIGNATURE, MIRROR_PASSWORD]


def shapes(secret: str) -> set[bytes]:
    """The spellings of a secret that are looked for."""
    texts = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
    texts |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    texts |= {repr(secret)[1:-1]}
    return {text.encode() for text in texts} | {base64.b64encode(secret.encode()).rstrip(b"=")}


def found_in(folder: Path, *, but: Iterable[Path] = ()) -> list[str]:
    """`FILE: SECRET` for every canary in a name or in the bytes of a file below a folder.

    `but`: files that must hold one, the token file for one.
    """
    allowed = set(but)
    found = []
    for path in sorted(folder.rglob("*")):
        if path in allowed:
            continue
        data = str(path.relative_to(folder)).encode()
        if path.is_file() and not path.is_symlink():
            data += b"\0" + path.read_bytes()
        found += [f"{path}: {secret}" for secret in secrets_in(data)]
    return found


def secrets_in(data: bytes) -> list[str]:
    """The canaries that some bytes hold, in whatever spelling."""
    return [secret for secret in secrets() if any(shape in data for shape in shapes(secret))]
