"""Read a shell script into statements: quotes, variables, comments, pipes. Nothing is executed.

Only what published build scripts use is understood; the rest is kept as a piece of unknown value,
so that a word which depends on it is reported instead of guessed.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from pipeline.errors import UsageError
from pipeline.migration.shell_words import Piece, Statement, Word, text_piece, unclosed

MAX_DEPTH = 20
"""Brackets inside brackets: far more than any script has."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPECIAL = re.compile(r"[0-9@*#?$!-]")
_BRACED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\[[@*]\])?(?:(:?[-=])(.*))?", re.DOTALL)
_CONTINUED = re.compile(r"(?<!\\)((?:\\\\)*)\\\n")
_PLAIN_IN_QUOTES = re.compile(r'[^"\\$`]+')
_SPLIT_LINE = re.compile(r"(?<!\\)\\[ \t]+(?:#[^\n]*)?\n(?=[ \t]*--?[A-Za-z])")
"""A line that was meant to go on: its backslash has blanks or a comment behind it, flags follow."""

_PLACEHOLDER = re.compile(r"<[A-Za-z\"'](?:[^<>|;&\n\0]*[^<>|;&\n\0\s])?>")
"""What a reader is to fill in, such as `<path of the model>`."""

_ENDS = "\n;&|()"
_REDIRECTION = re.compile(r"(?:[0-9]*|&)(?:>>|>\||>&|>|<<<|<<-?|<&|<>|<)")
_HERE_DOCUMENT = re.compile(r"<<-?(?!<)")


def read_statements(text: str, first_line: int = 1) -> list[Statement]:
    """Every statement of a script, in its order.

    Raises UsageError where a quote or a bracket is not closed, with its line.
    """
    # A backslash at the end of a line continues it, everywhere but in single quotes; scripts with
    # such a line inside single quotes are not told apart. `\0` keeps the count of lines.
    whole = _SPLIT_LINE.sub("\\\\\n", text.replace("\r\n", "\n"))
    joined = _CONTINUED.sub("\\1\0", whole)
    return _Reader(joined, first_line, 0).statements()


class _Reader:
    """One pass over the text; `at` is the next character."""

    def __init__(self, text: str, first_line: int, depth: int) -> None:
        self.text = text
        self.first_line = first_line
        self.depth = depth
        self.at = 0
        self.breaks = [place for place, char in enumerate(text) if char in "\n\0"]
        self.here_documents: list[str] = []

    @property
    def line(self) -> int:
        return self.first_line + bisect_left(self.breaks, self.at)

    def statements(self) -> list[Statement]:
        found = []
        is_piped = False
        while self.at < len(self.text):
            self._skip_blanks()
            start = self.line
            words = self._words(_ENDS)
            end = self._end()
            if words or end in ("(", ")"):
                found.append(Statement(tuple(words), start, end, is_piped))
            is_piped = end == "|"
        return found

    def _end(self) -> str:
        """Take what ends a statement; behind a newline also the bodies of here-documents."""
        end = self.text[self.at : self.at + 1] or "\n"
        doubled = self.text[self.at : self.at + 2]
        if doubled in ("&&", "||", ";;"):
            self.at += 2
            return ";"
        self.at += 1
        if end == "\n":
            self._skip_here_documents()
        return end

    def _skip_here_documents(self) -> None:
        for delimiter in self.here_documents:
            closing = re.compile(rf"^\t*{re.escape(delimiter)}$", re.MULTILINE)
            match = closing.search(self.text, self.at)
            self.at = match.end() if match else len(self.text)
        self.here_documents.clear()

    def _words(self, ends: str) -> list[Word]:
        words = []
        while self.at < len(self.text) and self.text[self.at] not in ends:
            redirection = _REDIRECTION.match(self.text, self.at)
            if self.text[self.at] == "#":
                self._skip_comment()
            elif _PLACEHOLDER.match(self.text, self.at):
                words.append(self._word(ends))
            elif redirection:
                self._skip_redirection(redirection.group())
            else:
                words.append(self._word(ends))
            self._skip_blanks()
        return words

    def _skip_blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t\0":
            self.at += 1

    def _skip_comment(self) -> None:
        ends = [found for mark in "\n\0" if (found := self.text.find(mark, self.at)) >= 0]
        self.at = min(ends, default=len(self.text))
        if self.text[self.at : self.at + 1] == "\0":
            # A comment is never continued: the backslash before this line's end is part of it.
            self.text = f"{self.text[: self.at]}\n{self.text[self.at + 1 :]}"

    def _skip_redirection(self, mark: str) -> None:
        self.at += len(mark)
        self._skip_blanks()
        if self.at < len(self.text) and self.text[self.at] not in _ENDS:
            word = self._word(_ENDS)
            if _HERE_DOCUMENT.fullmatch(mark.lstrip("0123456789")):
                self.here_documents.append("".join(piece.text for piece in word))

    def _word(self, ends: str) -> Word:
        """One word, up to a blank or one of `ends`."""
        pieces: list[Piece] = []
        stops = f"{ends} \t\0<>"
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "<" and (match := _PLACEHOLDER.match(self.text, self.at)):
                self.at = match.end()
                pieces.append(Piece("unknown", match.group(), match.group(), is_quoted=True))
                continue
            if char in stops:
                break
            if char in "'\"`$\\":
                pieces += self._special(char)
            else:
                start = self.at
                while self.at < len(self.text) and self.text[self.at] not in f"{stops}'\"`$\\":
                    self.at += 1
                pieces.append(text_piece(self.text[start : self.at]))
            if _is_array_start(pieces, self.text[self.at : self.at + 1]):
                pieces.append(self._array())
        if self.text[self.at : self.at + 1] in tuple("<>") and not pieces:
            self.at += 1  # what no redirection begins with; it must not stop the reader
        return tuple(pieces)

    def _special(self, char: str) -> list[Piece]:
        if char == "'":
            end = self._find("'", self.at + 1)
            text = self.text[self.at + 1 : end].replace("\0", "\\\n")
            self.at = end + 1
            return [text_piece(text, is_quoted=True)]
        if char == '"':
            return self._double_quoted()
        if char == "\\":
            escaped = self.text[self.at + 1 : self.at + 2]
            self.at += 2
            # No script escapes a letter: it is a path of Windows.
            is_path = escaped.isalnum() or escaped == "."
            return [text_piece(f"/{escaped}" if is_path else escaped, is_quoted=True)]
        return [self._expansion(is_quoted=False)]

    def _double_quoted(self) -> list[Piece]:
        pieces = [text_piece("", is_quoted=True)]
        opened = self.line
        self.at += 1
        while self.text[self.at : self.at + 1] != '"':
            if self.at >= len(self.text):
                raise unclosed('"', opened)
            char = self.text[self.at]
            if char == "\\" and self.text[self.at + 1 : self.at + 2] in tuple('"\\$`'):
                pieces.append(text_piece(self.text[self.at + 1], is_quoted=True))
                self.at += 2
            elif char in "$`":
                pieces.append(self._expansion(is_quoted=True))
            else:
                plain = _PLAIN_IN_QUOTES.match(self.text, self.at)
                text = plain.group() if plain else char
                pieces.append(text_piece(text.replace("\0", ""), is_quoted=True))
                self.at += len(text)
        self.at += 1
        return pieces

    def _expansion(self, *, is_quoted: bool) -> Piece:
        """What begins with `$` or a backquote."""
        start = self.at
        if self.text[start] == "`":
            self.at = self._find("`", start + 1) + 1
            return self._unknown(start, is_quoted=is_quoted)
        following = self.text[start + 1 : start + 2]
        if following == "(":
            return self._parenthesised(start, is_quoted=is_quoted)
        if following == "{":
            self.at = self._closing("{", "}", start + 1) + 1
            return self._braced(start, is_quoted=is_quoted)
        name = _NAME.match(self.text, start + 1)
        if name:
            self.at = name.end()
            return Piece("variable", name.group(), f"${name.group()}", is_quoted)
        if _SPECIAL.match(self.text, start + 1):
            self.at += 2
            return self._unknown(start, is_quoted=is_quoted)
        self.at += 1
        return text_piece("$", is_quoted=is_quoted)

    def _parenthesised(self, start: int, *, is_quoted: bool) -> Piece:
        self.at = self._closing("(", ")", start + 1) + 1
        raw = self.text[start : self.at]
        if raw.startswith("$((") and raw.endswith("))"):
            return Piece("arithmetic", raw[3:-2], raw, is_quoted)
        if raw in ("$(pwd)", "$( pwd )"):
            return Piece("variable", "PWD", raw, is_quoted)
        return self._unknown(start, is_quoted=is_quoted)

    def _braced(self, start: int, *, is_quoted: bool) -> Piece:
        raw = self.text[start : self.at]
        match = _BRACED.fullmatch(raw[2:-1])
        if match is None:
            return self._unknown(start, is_quoted=is_quoted)
        name, _, operator, default = match.groups()
        words = None
        if operator is not None:
            # Unlike the shell, blanks in it do not split it: defaults are single values.
            quoted = default if '"' in default else f'"{default}"'
            words = tuple(_Reader(quoted, self.line, self._deeper())._words(""))
        return Piece("variable", name, raw, is_quoted, words)

    def _array(self) -> Piece:
        opened, self.at = self.line, self.at + 1
        self.depth = self._deeper()
        items: list[Word] = []
        while self.text[self.at : self.at + 1] != ")":
            if self.at >= len(self.text):
                raise unclosed("(", opened)
            if self.text[self.at] in "\n;&|(":
                self.at += 1
            items += self._words(_ENDS)
            self._skip_blanks()
        self.at += 1
        self.depth -= 1
        return Piece("array", "", "(...)", words=tuple(items))

    def _deeper(self) -> int:
        if self.depth == MAX_DEPTH:
            raise UsageError(f"line {self.line} of the script nests deeper than {MAX_DEPTH}")
        return self.depth + 1

    def _unknown(self, start: int, *, is_quoted: bool) -> Piece:
        raw = self.text[start : self.at].replace("\0", "")
        return Piece("unknown", raw, raw, is_quoted)

    def _find(self, mark: str, start: int) -> int:
        end = self.text.find(mark, start)
        if end < 0:
            raise unclosed(mark, self.line)
        return end

    def _closing(self, opening: str, closing: str, start: int) -> int:
        depth = 0
        for place in range(start, len(self.text)):
            depth += (self.text[place] == opening) - (self.text[place] == closing)
            if not depth:
                return place
        raise unclosed(opening, self.line)


def _is_array_start(pieces: Sequence[Piece], following: str) -> bool:
    """Whether the word so far is `NAME=`, and a bracket follows."""
    if following != "(" or len(pieces) != 1 or pieces[0].is_quoted:
        return False
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\+?=", pieces[0].text) is not None
