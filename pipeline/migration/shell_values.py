"""What words of a shell script stand for, as far as the script itself says so."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.migration.shell_words import Piece, Word

MAX_TEXT = 1 << 18
"""Characters of one expanded word: variables that double each other are refused, not followed."""


@dataclass(frozen=True, slots=True)
class Field:
    """An argument of a command. `unknown`: what of it is not known, as written; `text` shows it."""

    text: str
    unknown: tuple[str, ...] = ()

    def __add__(self, other: Field) -> Field:
        if len(self.text) + len(other.text) > MAX_TEXT:
            raise UsageError(f"a word of the script is longer than {MAX_TEXT} characters")
        unknown = tuple(dict.fromkeys((*self.unknown, *other.unknown)))
        return Field(self.text + other.text, unknown)


Variables = dict[str, tuple[Field, ...]]
"""The values of a variable: one, or the items of an array."""


def expand(word: Word, variables: Variables) -> list[Field]:
    """The arguments that a word becomes: none or several where an unquoted variable has blanks.

    What the script does not say is kept as it is written, and named in `unknown`.
    """
    fields: list[Field] = []
    is_open = False
    for piece in word:
        values = _values(piece, variables)
        if piece.is_quoted or piece.kind == "text":
            parts, starts_new, ends_open = values, False, True
        else:
            parts = [part for value in values for part in _split(value)]
            starts_new, ends_open = _blanks_around(values)
        if parts and is_open and fields and not starts_new:
            fields[-1] += parts[0]
            parts = parts[1:]
        fields += parts
        is_open = ends_open if values else is_open
    return fields


def _values(piece: Piece, variables: Variables) -> list[Field]:
    if piece.kind == "text":
        return [Field(piece.text)]
    if piece.kind == "arithmetic":
        result = _calculate(piece.text, variables)
        return [Field(piece.raw, (piece.raw,)) if result is None else Field(str(result))]
    if piece.kind == "variable":
        return _variable(piece, variables)
    return [Field(piece.raw, (piece.raw,))]


def _variable(piece: Piece, variables: Variables) -> list[Field]:
    known = variables.get(piece.text)
    if known is not None and (piece.words is None or any(field.text for field in known)):
        return list(known)
    if piece.words is None:
        return [Field(piece.raw, (piece.raw,))]
    default = [field for word in piece.words for field in expand(word, variables)]
    default = default or [Field("")]
    if re.match(r"\$\{\w+:?=", piece.raw):
        variables[piece.text] = tuple(default)
    return default


def _split(value: Field) -> list[Field]:
    if value.unknown:
        return [value]
    return [Field(text) for text in value.text.split()]


def _blanks_around(values: Sequence[Field]) -> tuple[bool, bool]:
    """Whether an unquoted value begins a new argument, and leaves the last one open."""
    if not values:
        return False, True
    return values[0].text[:1].isspace(), not values[-1].text[-1:].isspace()


_CALCULATION = re.compile(r"[\w\s+*/%()-]{1,200}", re.ASCII)
_HALF_NUMBER = re.compile(r"[0-9][A-Za-z_]")
_OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.floordiv,
    ast.Mod: operator.mod,
}


def _calculate(expression: str, variables: Variables) -> int | None:
    """The value of `$(( ))` over known whole numbers; None where there is none."""
    plain = re.sub(r"\$\{(\w+)\}|\$(\w+)", r" \1\2 ", expression.replace("\0", " "))
    if not _CALCULATION.fullmatch(plain) or _HALF_NUMBER.search(plain):
        return None
    try:
        return _number(ast.parse(plain.strip(), mode="eval").body, variables)
    except (SyntaxError, ValueError, ArithmeticError, MemoryError):
        return None


def _number(node: ast.expr, variables: Variables) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name):
            (field,) = variables.get(name, ())
            return int(field.text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_number(left, variables), _number(right, variables))
    raise ValueError(ast.dump(node))
