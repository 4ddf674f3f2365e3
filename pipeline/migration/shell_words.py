"""What a shell script is read as: statements of words, words of pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import UsageError

PieceKind = Literal["text", "variable", "arithmetic", "unknown", "array"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a word.

    `text`: the literal text, the variable's name, the expression, or the source as written.
    `raw`: how it is shown where its value is not known. `words`: the default of
    `${NAME:-default}`, or the items of an array.
    """

    kind: PieceKind
    text: str
    raw: str
    is_quoted: bool = False
    words: tuple[Word, ...] | None = None


Word = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """Words up to `end`: a newline, `;`, `&`, `|`, `(` or `)`. `is_piped`: it follows a pipe."""

    words: tuple[Word, ...]
    line: int
    end: str
    is_piped: bool


def text_piece(text: str, *, is_quoted: bool = False) -> Piece:
    """Literal text."""
    return Piece("text", text, text, is_quoted)


def unclosed(mark: str, line: int) -> UsageError:
    """The error of a quote or a bracket that is never closed."""
    return UsageError(
        f"line {line} of the script opens `{mark}`, which is never closed",
        hint="give the script as the shell would accept it",
    )
