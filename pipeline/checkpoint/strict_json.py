"""JSON documents of untrusted origin: nothing that two readers could understand differently.

What a document may cost is bounded before it is parsed (see `Limits`), so that reading one takes
memory by its size and no more: Python's parser alone makes 60 bytes for every `{}`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifact import Json
from pipeline.errors import VerificationError
from pipeline.files.regular import read_small

MAX_FACTS = 50
"""Faults listed in one error; a hostile file must not produce an endless message."""

MAX_WIDE_BYTES = 16 << 20
"""Of a document that is not plain ASCII: one wide character makes a text four times as large."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a kind of document may have; each far beyond what any real one has.

    `items`: commas and opened brackets, which bound the values and the keys, and escapes.
    `depth`: lists and objects inside one another.
    """

    max_bytes: int
    items: int
    depth: int = 64
    max_wide_bytes: int = MAX_WIDE_BYTES


CONFIG_LIMITS = Limits(16 << 20, 1 << 20)
"""Configs, records, manifests. The largest known config has some 10,000 items."""

INDEX_LIMITS = Limits(128 << 20, 1 << 20)
"""An index has an item for every tensor; the largest known model has some 160,000."""

MAX_DIGITS = 40
"""Of a whole number: `model_max_length` of tokenizers is often 10^30, nothing is longer."""

MAX_NUMBER_CHARACTERS = 100
"""Of a number with a fraction or an exponent; 17 digits say all that a double holds."""

_HINT = "fetch or write this file again: it is damaged, or not what its name says"

_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_BUT_QUOTES_AND_BRACKETS = bytes(sorted(set(range(256)) - set(b'"[]{}')))


def parse_object(data: bytes, file: str, limits: Limits = CONFIG_LIMITS) -> dict[str, Json]:
    """Parse UTF-8 JSON whose top is an object.

    Refuses what Python's parser lets pass or resolves silently: a repeated key, NaN and infinities,
    other encodings, half characters, `-0`, numbers of endless digits. Raises VerificationError that
    names `file` and the reason, also where the document exceeds the limits.
    """
    reason = why_too_much(data, limits)
    if reason is not None:
        raise VerificationError(f"`{file}` {reason}", hint=_HINT)
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
        if _SURROGATE.search(data):
            json.dumps(document, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 at byte {error.start}"
    except UnicodeEncodeError:
        reason = "has half of a character (a lone surrogate)"
    except RecursionError:
        reason = "is nested too deeply"
    except ValueError as error:
        reason = f"is not valid JSON: {error}"
    else:
        if isinstance(document, dict):
            return document
        reason = "is not a JSON object"
    raise VerificationError(f"`{file}` {reason}", hint=_HINT)


def read_object(path: Path, told: str, limits: Limits = CONFIG_LIMITS) -> dict[str, Json]:
    """Read and parse a file, which messages call `told`; no more of it than a good one has.

    Raises VerificationError as `parse_object` does, and for what is no regular file; OSError.
    """
    return parse_object(read_small(path, limits.max_bytes, told), told, limits)


def why_too_much(data: bytes, limits: Limits) -> str | None:
    """Why a document would cost too much to parse, or None. Takes a few passes over its bytes."""
    if len(data) > limits.max_bytes:
        return f"has {len(data)} bytes, more than {limits.max_bytes}"
    num_opened = data.count(b"[") + data.count(b"{")
    for what, count in (("items", num_opened + data.count(b",")), ("escapes", data.count(b"\\"))):
        if count > limits.items:
            return f"has {count} {what}, more than {limits.items}"
    if len(data) > limits.max_wide_bytes and (b"\\u" in data or not data.isascii()):
        most_bytes = limits.max_wide_bytes
        return f"is not plain ASCII, and has {len(data)} bytes, more than {most_bytes}"
    if num_opened > limits.depth and _is_deep(data, limits.depth):
        return f"is nested too deeply, in more than {limits.depth} levels"
    return None


def _is_deep(data: bytes, depth: int) -> bool:
    """Whether brackets are opened inside more than `depth` others; texts do not count."""
    if b"\\" in data:
        data = _ESCAPE.sub(b"", data)
    parts = data.translate(_ONE_KIND, _BUT_QUOTES_AND_BRACKETS).split(b'"')
    brackets = b"".join(parts[::2])
    for _ in range(depth):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    # Few that are never closed, or closed too often, are no JSON: the parser can tell that best.
    return b"[]" in brackets or len(brackets) > depth


def listed(facts: list[str]) -> list[str]:
    """The facts that fit in one error message, and how many more there are."""
    if len(facts) <= MAX_FACTS:
        return facts
    return [*facts[:MAX_FACTS], f"and {len(facts) - MAX_FACTS} more"]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        repeated = [f"`{printable(key)}`" for key, count in counts.items() if count > 1]
        raise ValueError(f"repeated key {', '.join(repeated[:5])}")
    return document


def _refuse_constant(text: str) -> float:
    raise ValueError(f"`{text}` is not JSON")


def _finite(text: str) -> float:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise ValueError(f"a number of {len(text)} characters, `{text[:40]}...`")
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"`{text[:40]}` is out of range")
    return number


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits, `{text[:40]}...`")
    if text == "-0":
        raise ValueError("a number `-0`, which is a whole number to some readers only")
    return int(text)


def printable(text: str, limit: int = 120) -> str:
    """A name as it may stand in a message: control characters escaped, not endless."""
    text = text[: limit + 1]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
