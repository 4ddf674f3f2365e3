"""Triton's `config.pbtxt`: protobuf text of a `ModelConfig`, written one way and read strictly.

Format: Protocol Buffers, "Text Format Language Specification"; messages of Triton's
`model_config.proto`. What is written is a part of that language: no comments in messages, one field
a line, lists only of numbers and of messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from pipeline.errors import VerificationError


@dataclass(frozen=True, slots=True)
class Word:
    """An enum value, such as `TYPE_INT32`."""

    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """Fields in order; a name that comes again is a repeated field."""

    fields: tuple[tuple[str, Value], ...] = ()

    def all(self, name: str) -> list[Value]:
        """Every value of a field."""
        return [value for field, value in self.fields if field == name]

    def messages(self, name: str) -> list[Message]:
        """Every value of a field of messages; others are left out."""
        return [value for value in self.all(name) if isinstance(value, Message)]

    def one(self, name: str) -> Value | None:
        """The only value of a field; None where it has none, or several."""
        found = self.all(name)
        return found[0] if len(found) == 1 else None


Value = str | int | bool | Word | tuple[int, ...] | Message


def message(**fields: Value) -> Message:
    """A message whose fields come once each."""
    return Message(tuple(fields.items()))


def write_text(root: Message, heading: str) -> bytes:
    """The file: a comment line, then one field a line, two spaces a level."""
    return "\n".join([f"# {heading}", *_lines(root, ""), ""]).encode()


def _lines(of: Message, indent: str) -> Iterator[str]:
    for name, value in of.fields:
        if not isinstance(value, Message):
            yield f"{indent}{name}: {_scalar(value)}"
        elif value.fields:
            yield f"{indent}{name} {{"
            yield from _lines(value, indent + "  ")
            yield f"{indent}}}"
        else:
            yield f"{indent}{name} {{ }}"


def _scalar(value: str | int | bool | Word | tuple[int, ...]) -> str:
    if isinstance(value, Word):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    assert value.isascii(), value
    assert value.isprintable(), value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


_TOKEN = re.compile(
    r"""(?P<space>[ \n]+|\#[^\n]*\n)
      | (?P<text>"(?:[^"\\\n]|\\["\\])*")
      | (?P<number>-?(?:0|[1-9][0-9]*))(?![\w.])
      | (?P<word>[A-Za-z_]\w*)
      | (?P<mark>[:{}\[\],])""",
    re.VERBOSE,
)
MAX_DEPTH = 20


class _Reader:
    """The tokens of a file, one ahead."""

    def __init__(self, data: bytes, name: str) -> None:
        self._name = name
        try:
            self._text = data.decode("ascii")
        except UnicodeDecodeError:
            raise VerificationError(f"`{name}` is not ASCII text") from None
        self._place = 0
        self.kind, self.here = "", ""
        self.step()

    def step(self) -> str:
        """Go on; the token that was there."""
        before = self.here
        while True:
            if self._place == len(self._text):
                self.kind, self.here = "end", ""
                return before
            found = _TOKEN.match(self._text, self._place)
            if found is None:
                self.fail("a character that does not belong there")
            self._place = found.end()
            self.kind, self.here = str(found.lastgroup), found.group()
            if self.kind != "space":
                return before

    def fail(self, what: str) -> NoReturn:
        """Raise VerificationError with the line."""
        line = self._text.count("\n", 0, self._place) + 1
        raise VerificationError(f"`{self._name}` cannot be read: line {line} has {what}")

    def take(self, token: str) -> None:
        """The next token must be this one."""
        if self.here != token:
            self.fail(f"`{self.here or 'its end'}` where `{token}` belongs")
        self.step()


def parse_text(data: bytes, name: str) -> Message:
    """Read a `config.pbtxt`. Raises VerificationError for anything that it would not write so."""
    reader = _Reader(data, name)
    fields = _fields(reader, 0)
    if reader.kind != "end":
        reader.fail(f"`{reader.here}` after its end")
    return fields


def _fields(reader: _Reader, depth: int) -> Message:
    if depth > MAX_DEPTH:
        reader.fail("messages nested too deep")
    found: list[tuple[str, Value]] = []
    while reader.kind == "word":
        name = reader.step()
        if reader.here == "{":
            reader.step()
            found.append((name, _fields(reader, depth + 1)))
            reader.take("}")
        else:
            reader.take(":")
            found.append((name, _value(reader)))
    return Message(tuple(found))


def _value(reader: _Reader) -> Value:
    kind = reader.kind
    if kind == "text":
        return re.sub(r"\\(.)", r"\1", reader.step()[1:-1])
    if kind == "number":
        return int(reader.step())
    if kind == "word":
        word = reader.step()
        return word == "true" if word in {"true", "false"} else Word(word)
    reader.take("[")
    numbers: list[int] = []
    while reader.here != "]":
        if numbers:
            reader.take(",")
        if reader.kind != "number":
            reader.fail("a list of something else than whole numbers")
        numbers.append(int(reader.step()))
    reader.take("]")
    return tuple(numbers)
