"""What a recipe expects of a generation, checked, and the differences as lines for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.engines.generation import Generation
from pipeline.recipe.smoke_section import Expect

WINDOW = 60
"""Characters shown of each text around the first difference."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One expectation: its recipe key and value, and why it does not hold (empty if it does)."""

    kind: str
    expected: Json
    faults: tuple[str, ...]

    def as_json(self) -> dict[str, Json]:
        """For the smoke record."""
        return {"kind": self.kind, "expected": self.expected, "holds": not self.faults}


def check(expect: Expect, text: str, generation: Generation) -> list[Outcome]:
    """The outcome of each expectation that is given."""
    return [
        Outcome(kind, expected, tuple(_faults(kind, expected, text, generation)))
        for kind, expected in expect.model_dump(mode="json").items()
        if expected is not None
    ]


def _faults(kind: str, expected: Json, text: str, generation: Generation) -> Iterator[str]:
    """Lines that say why an expectation does not hold."""
    token_ids = generation.token_ids
    if kind == "text" and text != expected:
        yield f"`text` differs from character {_first_difference(expected, text)} on"
        yield from _show_difference(expected, text)
    elif kind == "contains" and expected not in text:
        yield f"`contains`: {expected!r} is not in the text"
        yield f"  got      {_clip(text)}"
    elif kind == "regex" and re.search(expected, text) is None:
        yield f"`regex`: {expected!r} is not found in the text"
        yield f"  got      {_clip(text)}"
    elif kind == "token_ids" and list(token_ids) != expected:
        yield from _token_faults(expected, token_ids)
    elif kind == "min_tokens" and len(token_ids) < expected:
        yield f"`min_tokens`: {len(token_ids)} tokens were generated, expected {expected} or more"
    elif kind == "stop_reason" and generation.stop_reason != expected:
        yield f"`stop_reason` is `{generation.stop_reason}`, expected `{expected}`"


def _first_difference(expected: str, got: str) -> int:
    pairs = zip(expected, got, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    return min(len(expected), len(got)) if same is None else same


def _show_difference(expected: str, got: str) -> Iterator[str]:
    """Both texts from the same place on, and a caret under the first character that differs."""
    place = _first_difference(expected, got)
    first = max(0, place - WINDOW // 2)
    before = "..." if first else ""
    for label, text in (("expected", expected), ("got     ", got)):
        shown = _escape(text[first : first + WINDOW])
        after = "..." if len(text) > first + WINDOW else ""
        yield f"  {label} |{before}{shown}{after}|"
    column = len("  expected |") + len(before) + len(_escape(got[first:place]))
    yield " " * column + "^"


def _escape(text: str) -> str:
    """One line, one column per character where terminals agree: control characters escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _clip(text: str) -> str:
    return f"|{_escape(text[: 2 * WINDOW])}{'...' if len(text) > 2 * WINDOW else ''}|"


def _token_faults(expected: list[int], token_ids: tuple[int, ...]) -> Iterator[str]:
    pairs = enumerate(zip(expected, token_ids, strict=False))
    place = next((i for i, (a, b) in pairs if a != b), min(len(expected), len(token_ids)))
    yield f"`token_ids` differ from token {place} on"
    yield f"  expected {expected}"
    yield f"  got      {list(token_ids)}"
