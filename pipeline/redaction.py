"""Secrets, and how they are kept out of everything that is shown or written.

Two things are hidden: what looks like a credential, and the values that this process holds as
credentials (environment, token files), in whatever shape a message quotes them. A text goes through
`redact`, a document through `redact_value` before it becomes text; `protect_streams` puts the same
filter behind everything else that reaches stdout and stderr: libraries, warnings, tracebacks.
What is published is not rewritten but refused: see `find_known_secrets`.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from pipeline.files.folders import entries_below

HIDDEN = "[redacted]"

MAX_TOKEN_FILE_BYTES = 1 << 20
MIN_CHARS = 8
"""Shorter values of a variable are no credentials, but words that every message has."""

MIN_PUBLISHED_CHARS = 16
"""Shorter values of a variable may stand in a model's files by chance (`CACHE_KEY=bfloat16`)."""

MAX_SCANNED_BYTES = 16 << 20
"""Of a published file: larger ones are weights and engines."""

_SECRET_ENDS = (
    *("TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "CREDENTIAL", "CREDENTIALS"),
    *("APIKEY", "ACCESSKEY", "SECRETKEY", "_PASS", "_PWD"),
)
"""Ends of names of variables that hold credentials: `HF_TOKEN`, `PGPASSWORD`, `MYSQL_PWD`."""

_AMBIGUOUS = frozenset({"AUTH", "KEY", "PAT"})
"""Last words of names that may hold one, or a name, as `CACHE_KEY=llama-3.1-8b` does."""

_NAME = re.compile(r"(?:(?:[A-Za-z]{1,12}\d{0,3}|\d{1,4}[A-Za-z]?)(?:[-_./ ]|$))+")
"""Words and versions, as in names of models, types and files: no key that a service gives out."""
_USER_INFO = re.compile(r"://[^/\s@:]*:([^/\s@]{4,})@")
_NETRC = re.compile(r"\s*(?:machine|default)\s")
_NETRC_PASSWORD = re.compile(r"(?:^|\s)password\s+(\S+)")
_ONE_WORD = re.compile(r"[a-z]+|[A-Z]+")

_PARAMETERS = (
    r"x-(?:amz|goog|oss|ms|xet)-[a-z-]+|signature|sig|policy|key-pair-id|awsaccesskeyid"
    r"|googleaccessid|ossaccesskeyid|security-token|access[_-]?token|auth[_-]?(?:key|token)"
    r"|refresh[_-]?token|id[_-]?token|token|api[_-]?key|password|passwd|client[_-]?secret|secret"
)
_QUOTE = r"\\?[\"']"
_FIELDS = r"access_?token|refresh_?token|token|password|secret|api_?key"
_SCHEMES = r"basic|digest|token|negotiate|bearer"
_IS = rf"(?:{_QUOTE})?\s*[:=]\s*(?:{_QUOTE})?"
_BEGIN = r"(?:(?<![\w-])|(?<=%3F)|(?<=%26)|(?<=u0026))"

_Row = tuple[tuple[str, ...], re.Pattern[str]]
"""Words of which a text that the pattern matches has one: most texts have none of any."""


def _row(hints: str, pattern: str, flags: int = 0) -> _Row:
    return tuple(hints.split()), re.compile(pattern, flags)


_SHAPED: tuple[_Row, ...] = (
    # Hugging Face, ModelScope, GitHub and GitLab, AWS, JSON web tokens, private keys; a password
    # in an address.
    _row("hf_ api_org_", r"(?P<kept>)\b(?:hf|api_org)_[A-Za-z0-9]{20,}"),
    _row("hf_", r"(?P<kept>)\bhf_(?:oauth|jwt|app|xet)_[\w.-]{16,}"),
    _row("ms-", r"(?P<kept>)\bms-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE),
    _row("gh github_ glpat-", r"(?P<kept>)\b(?:gh[pousr]_|github_pat_|glpat-)[\w-]{20,}"),
    _row("akia asia", r"(?P<kept>)\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    _row("eyj", r"(?P<kept>)\beyJ[\w-]{10,}\.[\w-]{10,}(?:\.[\w-]*)?"),
    _row("private", r"(?P<kept>-----BEGIN [A-Z ]*PRIVATE KEY-----)[^-]+"),
    _row("@", r"(?P<kept>://)[^/\s\"'`?#<>]+(?=@)"),
)
"""What is a credential wherever it stands."""

_PLACED: tuple[_Row, ...] = (
    # Headers.
    _row("bearer", r"(?P<kept>\bBearer(?:\s+|%20|\+))[^\s\"'`,;]+", re.IGNORECASE),
    _row(
        "authorization",
        rf"(?P<kept>\b(?:proxy-)?authorization{_IS}(?:(?:{_SCHEMES})\s+)?)[^\s\"'`,;\\]{{4,}}",
        re.IGNORECASE,
    ),
    _row("cookie", rf"(?P<kept>\b(?:set-)?cookie{_IS})[^\r\n\"'\\]+", re.IGNORECASE),
    # What an address is signed with, also where it stands in another one.
    _row(
        "= %3d",
        rf"(?P<kept>{_BEGIN}(?:{_PARAMETERS})(?:=|%3D))[^&\s\"'`<>\\,;)]+",
        re.IGNORECASE,
    ),
    # JSON of a server, or a dict in a traceback.
    _row(
        "token password secret api",
        rf"(?P<kept>{_QUOTE}(?:{_FIELDS}){_QUOTE}\s*:\s*{_QUOTE})[^\"'\\]{{8,}}",
        re.IGNORECASE,
    ),
)
"""What is a credential by what stands before it."""


def redact(text: str) -> str:
    """The text without credentials: those known to this process, and what looks like one."""
    return redactor()(text)


def redactor() -> Callable[[str], str]:
    """`redact` for many texts: the environment and token files are looked at once."""
    known = _matcher(tuple(secret_values()))
    return lambda text: _without(text, known)


def redact_value(value: Any) -> Any:
    """A JSON value whose texts are redacted, keys included."""
    clean = redactor()

    def walk(item: Any) -> Any:
        if isinstance(item, str):
            return clean(item)
        if isinstance(item, Mapping):
            return {clean(str(key)): walk(inner) for key, inner in item.items()}
        return [walk(inner) for inner in item] if isinstance(item, (list, tuple)) else item

    return walk(value)


def secret_finder() -> Callable[[str], bool]:
    """Whether a text that somebody wrote down holds a credential, wherever it stands.

    A value of this process that is one plain word does not count, nor what may be prose.
    """
    values = [value for value in secret_values() if not _ONE_WORD.fullmatch(value)]
    return lambda text: (
        any(value in text for value in values)
        or any(pattern.search(text) for pattern in _fitting(text, _SHAPED))
    )


def secret_values(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The credentials that this process can use: value -> where it is from.

    Variables by their names, passwords in addresses of any variable (a mirror, a proxy), and the
    token files of the hub clients.
    """
    given = os.environ if environment is None else environment
    found: dict[str, str] = {}
    for name, value in given.items():
        if _holds_secret(name, value):
            found |= dict.fromkeys(_parts(value), f"`{name}`")
        elif "://" in value:
            found |= dict.fromkeys(_USER_INFO.findall(value), f"`{name}`")
    for path in token_files(given):
        found |= dict.fromkeys(_token_file(path), f"the file `{path}`")
    return found


def _holds_secret(name: str, value: str) -> bool:
    """Whether a variable is one of a credential; `GITLAB_TOKEN_2` is, too."""
    bare = name.upper().rstrip("0123456789_")
    is_key = bare.rpartition("_")[2] in _AMBIGUOUS and not _NAME.fullmatch(value)
    return is_key or bare.endswith(_SECRET_ENDS)


def token_files(environment: Mapping[str, str]) -> list[Path]:
    """Where logins leave tokens, that of the Hugging Face Hub first; they need not exist.

    Sources: huggingface_hub 2.4, `constants.py` and `utils/_git_credential.py`; modelscope 1.20,
    `hub/constants.py`; requests 2.32, `utils.py` (`get_netrc_auth`); git, gitcredentials(7).
    """
    home = environment.get("HOME", "~")
    cache = environment.get("XDG_CACHE_HOME", f"{home}/.cache")
    hub = environment.get("HF_HOME", f"{cache}/huggingface")
    scope = environment.get("MODELSCOPE_CREDENTIALS_PATH", f"{home}/.modelscope/credentials")
    names = [environment.get("HF_TOKEN_PATH", f"{hub}/token"), f"{hub}/stored_tokens"]
    names += [f"{scope}/git_token", f"{scope}/session"]
    config = environment.get("XDG_CONFIG_HOME", f"{home}/.config")
    names += [environment.get("NETRC", f"{home}/.netrc"), f"{home}/_netrc"]
    names += [f"{home}/.git-credentials", f"{config}/git/credentials"]
    return [Path(os.path.expandvars(name)).expanduser() for name in names]


def find_known_secrets(folder: Path) -> list[str]:
    """Files below a folder that hold a credential of this process: `` `name` holds `HF_TOKEN` ``.

    Only known values count, whatever a model's own files look like; a short one, or one plain word,
    does not, as it would be found anywhere. Raises OSError where a file cannot be read.
    """
    shapes = {
        shape.encode(): origin
        for value, origin in secret_values().items()
        if len(value) >= MIN_PUBLISHED_CHARS and not _ONE_WORD.fullmatch(value)
        for shape in _shapes(value)
    }
    if not shapes:
        return []
    found = []
    for entry in entries_below(folder):
        path = Path(entry.path)
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_SCANNED_BYTES:
            continue
        data = path.read_bytes()
        origins = sorted({origin for shape, origin in shapes.items() if shape in data})
        name = path.relative_to(folder).as_posix()
        found += [f"`{name}` holds the value of {origin}" for origin in origins]
    return found


def _without(text: str, known: re.Pattern[str] | None) -> str:
    if known is not None:
        text = known.sub(HIDDEN, text)
    for pattern in _fitting(text, (*_SHAPED, *_PLACED)):
        text = pattern.sub(rf"\g<kept>{HIDDEN}", text)
    return text


def _fitting(text: str, rows: Iterable[_Row]) -> Iterator[re.Pattern[str]]:
    """The patterns that may match."""
    lowered = text.lower()
    for hints, pattern in rows:
        if any(hint in lowered for hint in hints):
            yield pattern


def _parts(value: str) -> Iterator[str]:
    """The lines of a credential, as a key has many; nothing of what is a path or too short."""
    for line in value.splitlines():
        part = line.strip()
        if len(part) >= MIN_CHARS and not part.startswith("-----") and not _is_path(part):
            yield part


def _is_path(value: str) -> bool:
    """`SSL_KEY=/etc/ssl/key.pem` is no secret."""
    try:
        return value.startswith(("/", "~", "./")) and Path(value).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long for a path; a NUL; no home
        return False


def _token_file(path: Path) -> list[str]:
    """A file with one token, or one of `name = token` lines, of addresses, or of passwords."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) or state.st_size > MAX_TOKEN_FILE_BYTES:
            return []  # no login leaves that; a pipe would be waited for
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return []
    if path.name.endswith("netrc") or _NETRC.match(text):
        values = _NETRC_PASSWORD.findall(text)
    elif "://" in text:
        values = _USER_INFO.findall(text)
    else:
        lines = [line for line in text.splitlines() if not line.startswith("[")]
        values = [line.rpartition("=")[2] if " = " in line else line for line in lines]
    return [part for value in values for part in _parts(value)]


@lru_cache(maxsize=8)
def _matcher(values: tuple[str, ...]) -> re.Pattern[str] | None:
    """One pattern for all shapes of these values, the longest first."""
    shapes = {shape for value in values for shape in _shapes(value)}
    ordered = sorted(shapes, key=lambda shape: (-len(shape), shape))
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


def _shapes(value: str) -> Iterable[str]:
    """A value as texts quote it: plain, in an address, in JSON, by `repr`."""
    quoted = (quote(value, safe=""), quote(value), quote_plus(value))
    return {value, *quoted, json.dumps(value)[1:-1], repr(value)[1:-1]}
