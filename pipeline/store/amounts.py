"""Sizes and ages as people write them: `500GB`, `1.5TiB`, `30d`."""

from __future__ import annotations

import re

from pipeline.errors import UsageError

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGTP]i?)?B?", re.IGNORECASE)
_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhdw])")
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_bytes(text: str, what: str) -> int:
    """Bytes of a size; units are powers of 1000, or of 1024 with an `i`. Raises UsageError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"{what} is `{text}`, which is not a size", hint="write for example `500GB` or `2TiB`"
        )
    unit = (found[2] or "").lower()
    base = 1024 if unit.endswith("i") else 1000
    return int(float(found[1]) * base ** _POWERS.get(unit[:1], 0))


def parse_seconds(text: str, what: str) -> float:
    """Seconds of an age. Raises UsageError."""
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"{what} is `{text}`, which is not an age",
            hint="write for example `30d`, `12h` or `2w`",
        )
    return float(found[1]) * _SECONDS[found[2]]
