"""JSON documents of untrusted origin: nothing that two readers could understand differently."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from pipeline.artifact import Json
from pipeline.errors import VerificationError

MAX_FACTS = 50
"""Faults listed in one error; a hostile file must not produce an endless message."""


def parse_object(data: bytes, file: str) -> dict[str, Json]:
    """Parse UTF-8 JSON whose top is an object.

    Refuses what Python's parser lets pass or resolves silently: a repeated key, NaN and infinities,
    other encodings. Raises VerificationError that names `file` and the reason.
    """
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise VerificationError(f"`{file}` is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise VerificationError(f"`{file}` is nested too deeply") from None
    except ValueError as error:
        raise VerificationError(f"`{file}` is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise VerificationError(f"`{file}` is not a JSON object")
    return document


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
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"`{text[:40]}` is out of range")
    return number


def printable(text: str, limit: int = 120) -> str:
    """A name as it may stand in a message: control characters escaped, not endless."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
