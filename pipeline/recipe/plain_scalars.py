"""What an unquoted YAML scalar means in a recipe, and which text needs quotes.

Source of the rules: YAML 1.2.2, section 10.3.2 (core schema), less octal and hexadecimal integers,
integers with leading zeros, infinities and NaN, which stay text: other readers of YAML disagree
about them, and JSON cannot hold the last two.
"""

from __future__ import annotations

import json
import math
import re

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(  # a point, an exponent, or both
    r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"
)
_SAFE = re.compile(r"[A-Za-z0-9_./]([A-Za-z0-9_./ -]*[A-Za-z0-9_./-])?")


def resolve_plain(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means. Raises OverflowError beyond 64-bit integers and floats."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
            raise OverflowError(text)
        return int(text)
    if _FLOAT.fullmatch(text):
        if math.isinf(float(text)):
            raise OverflowError(text)
        return float(text)
    return text


def quote_if_needed(text: str) -> str:
    """A text as a scalar of one line: unquoted where that means the same, else in double quotes."""
    if _SAFE.fullmatch(text) and _means_text(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)


def _means_text(text: str) -> bool:
    try:
        return isinstance(resolve_plain(text), str)
    except OverflowError:
        return False
