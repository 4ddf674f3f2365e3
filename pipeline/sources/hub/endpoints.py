"""Where the Hugging Face Hub is: the client's own endpoint, or a mirror that a recipe names."""

from __future__ import annotations

import os
from urllib.parse import quote, urlsplit

HUB = "https://huggingface.co"


def own_endpoint() -> str:
    """The client's endpoint, as it reads `HF_ENDPOINT` (`constants.py`, 0.36 and 2.4).

    Told without the client: a plan that needs no request does not import it.
    """
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def without_user(endpoint: str) -> str:
    """An endpoint as it may be shown: `HF_ENDPOINT` can hold a name and a password."""
    parts = urlsplit(endpoint)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def find_mirror(wanted: str | None) -> str | None:
    """The endpoint that a recipe names, or None where that is the client's own anyway."""
    endpoint = None if wanted is None else wanted.rstrip("/")
    return None if endpoint == own_endpoint() else endpoint


def memory_name(repo: str, mirror: str | None) -> str:
    """Under which name a repo is remembered.

    What a mirror says of a commit is remembered apart: the digests that it lists must not decide
    what is taken from elsewhere.
    """
    if mirror is None:
        return repo
    return f"@mirror-{quote(mirror.removeprefix('https://'), safe='')}/{repo}"
