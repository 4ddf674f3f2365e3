"""Which ModelScope is asked, and in whose name: the settings of its own client.

Read like `modelscope_hub` 0.5.1 (`config.py`, `constants.py`, `api.py`), on which `modelscope` 1.40
stands: MODELSCOPE_ENDPOINT before MODELSCOPE_DOMAIN before the site in China, or the international
one by MODELSCOPE_PREFER_AI_SITE; MODELSCOPE_API_TOKEN, where an empty one means none. That client
tries its other site where a repo is not on the first; we stay with one, which a message can name.
The login that it keeps in a file is not used: the file is a pickle, which can execute code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from pipeline.errors import MachineError
from pipeline.sources.http.addresses import Misdirected, check_address, is_loopback

CHINA = "https://modelscope.cn"
INTERNATIONAL = "https://www.modelscope.ai"
TRUE = frozenset({"1", "true", "yes", "on"})
MAX_TOKEN = 4096


@dataclass(frozen=True, slots=True)
class Site:
    """The address of a ModelScope, with no slash at its end, and a token for it."""

    endpoint: str = CHINA
    token: str | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.endpoint).netloc

    @property
    def elsewhere(self) -> str | None:
        """The address, unless it is the usual one."""
        return None if self.endpoint == CHINA else self.endpoint

    def memory_name(self, repo: str) -> str:
        """Under which name a repo is remembered: what one site says is not said by another."""
        place = "" if self.elsewhere is None else f"-{quote(self.endpoint, safe='')}"
        return f"@modelscope{place}/{repo}"

    def secret_headers(self) -> dict[str, str]:
        """The token as its client sends it: older parts of the API read the cookie."""
        if not self.token:
            return {}
        return {"Authorization": f"Bearer {self.token}", "Cookie": f"m_session_id={self.token}"}


def find_site(environ: Mapping[str, str] = os.environ) -> Site:
    """The site that the environment names. Raises MachineError where what it says cannot be."""
    return Site(_endpoint(environ), _token(environ))


def _endpoint(environ: Mapping[str, str]) -> str:
    for name in ("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"):
        written = environ.get(name, "").strip()
        if written:
            return _checked(name, written)
    prefers_ai = environ.get("MODELSCOPE_PREFER_AI_SITE", "").strip().lower() in TRUE
    return INTERNATIONAL if prefers_ai else CHINA


def _checked(name: str, written: str) -> str:
    """An address with its scheme; its client takes a bare host for one of https."""
    has_scheme = written.lower().startswith(("http://", "https://"))
    endpoint = (written if has_scheme else f"https://{written}").rstrip("/")
    hint = f"`{name}` is a host, or an address that starts with `https://`"
    try:
        parts = urlsplit(endpoint)
        parts = check_address(endpoint, loopback=is_loopback(parts.hostname or ""))
    except Misdirected as error:
        raise MachineError(f"`{name}` names {error}", hint=hint) from None
    except ValueError:
        raise MachineError(f"`{name}` is not an address", hint=hint) from None
    if parts.query or parts.fragment:
        raise MachineError(f"`{name}` has more than an address", hint=hint)
    return endpoint


def _token(environ: Mapping[str, str]) -> str | None:
    token = environ.get("MODELSCOPE_API_TOKEN", "").strip()
    if len(token) > MAX_TOKEN or not all(
        "!" <= letter <= "~" and letter != ";" for letter in token
    ):
        raise MachineError(
            "`MODELSCOPE_API_TOKEN` is not a token",
            hint="copy it again from the site, as one word, or unset it",
        )
    return token or None
