"""Mistakes in a recipe: where each one is, what is wrong, what to write instead."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.errors import RecipeError

MAX_SHOWN = 50
"""Mistakes that one error shows; the rest is counted."""

MAX_COUNTED = 200
"""Mistakes that are looked for: far more than anybody reads."""

_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
_EXCERPT_CHARS = 100
_LINE_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Origin:
    """A text that was read: a file, by the path it was named with, or an option such as `--set`.

    `lines` is the text of a file; an option's name is its whole text already.
    """

    name: str
    lines: tuple[str, ...] = field(default=(), repr=False, compare=False)
    is_file: bool = True


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in an origin: line and column from 1, and how many characters it spans.

    Line 0 is the origin as a whole.
    """

    origin: Origin
    line: int
    column: int
    num_chars: int = 1


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong.

    `variant` names the variant that it was found in, if not always. The source line of a mistake
    about a secret is not shown.
    """

    mark: Mark
    message: str
    hint: str | None = None
    variant: str | None = field(default=None, compare=False)
    is_secret: bool = field(default=False, compare=False)

    def render(self) -> str:
        """The mistake as a few lines: place and message, source line with caret, hint."""
        where = f"in variant `{self.variant}`: " if self.variant else ""
        origin = self.mark.origin
        if self.mark.line == 0 or not origin.is_file:
            lines = [_safe(f"{origin.name}: {where}{self.message}")]
        else:
            place = f"{origin.name}:{self.mark.line}:{self.mark.column}"
            lines = [_safe(f"{place}: {where}{self.message}")]
            lines += [] if self.is_secret else _excerpt(self.mark)
        if self.hint:
            lines.append(_safe(f"  hint: {self.hint}"))
        return "\n".join(lines)


def refusal(name: str, mistakes: Iterable[Mistake]) -> RecipeError:
    """The error that reports all mistakes of the recipe `name`, in the order of their places.

    The recipe's own file comes first, then its parents, then `--set`. A mistake that was found
    more than once (in each variant, say) is reported once.
    """
    unique = list(dict.fromkeys(mistakes))
    origins = list(dict.fromkeys(mistake.mark.origin for mistake in unique))
    origins.sort(key=lambda origin: (origin.name != name, not origin.is_file))
    unique.sort(
        key=lambda each: (origins.index(each.mark.origin), each.mark.line, each.mark.column)
    )
    facts = [mistake.render() for mistake in unique[:MAX_SHOWN]]
    if len(unique) > MAX_SHOWN:
        facts.append("... and more")
    hint = "" if all(mistake.hint for mistake in unique) else None
    return RecipeError(f"{_culprit(name, origins)} {_count(len(unique))}", facts=facts, hint=hint)


def _count(number: int) -> str:
    if number >= MAX_COUNTED:
        return f"has at least {MAX_COUNTED} mistakes"
    return "has 1 mistake" if number == 1 else f"has {number} mistakes"


def _culprit(name: str, origins: Sequence[Origin]) -> str:
    """What the mistakes are in: one file, the overrides, or a mixture."""
    files = [origin.name for origin in origins if origin.is_file]
    if not files:
        return "`--set`"
    if len(origins) == 1:
        return f"`{files[0]}`"
    others = [f"`{file}`" for file in files if file != name]
    if len(files) < len(origins):
        others.append("`--set`")
    return f"`{name}`, together with {', '.join(others)},"


def _excerpt(mark: Mark) -> list[str]:
    """The source line and carets under the place; a long line is cut around it."""
    line = mark.origin.lines[mark.line - 1] if mark.line <= len(mark.origin.lines) else ""
    start = mark.column - 1
    first = max(0, start - _EXCERPT_CHARS // 2) if len(line) > _EXCERPT_CHARS else 0
    shown = _printable(line[first:])
    before, here = shown[: start - first], shown[start - first :]
    here_width = max(1, _width(here[: min(mark.num_chars, _EXCERPT_CHARS // 2)]))
    text = f"{'...' if first else ''}{before}{here}"
    if len(text) > _EXCERPT_CHARS:
        text = text[:_EXCERPT_CHARS] + "..."
    number = str(mark.line)
    indent = " " * ((3 if first else 0) + _width(before))
    return [f"  {number} | {text}".rstrip(), f"  {' ' * len(number)} | {indent}{'^' * here_width}"]


def _safe(text: str) -> str:
    """A line that is fit for a terminal: it may quote a file that nobody has looked at."""
    text = _printable(text)
    return text if len(text) <= _LINE_CHARS else text[:_LINE_CHARS] + "..."


def _printable(text: str) -> str:
    """Without what a terminal would act on, and without access tokens; as long as the text."""
    text = _TOKEN.sub(lambda token: "*" * len(token.group()), text)
    return "".join(char if char.isprintable() else "\N{MIDDLE DOT}" for char in text)


def _width(text: str) -> int:
    """Columns of a terminal that the text takes: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )
