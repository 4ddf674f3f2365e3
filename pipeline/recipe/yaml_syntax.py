"""Text that is not YAML: the parser's words turned into what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from pipeline.recipe.mistakes import Mark, Mistake, Origin

MAX_DEPTH = 20

# What YAML calls printable, less a byte order mark amid text. Source: YAML 1.2.2, section 5.1.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_NO_KEY = "did not find expected key"
_NO_CONTENT = "did not find expected node content"
_BY_LINE = (_NO_KEY, _NO_CONTENT, "mapping values are not allowed")
_INDENTATION = "keys of one section begin in the same column; check this line and those above it"


@dataclass(frozen=True, slots=True)
class _Advice:
    """What one problem of libyaml means; `at_start`: show where the construct began instead."""

    problem: str
    message: str
    hint: str
    at_start: bool = False


TOO_DEEP = _Advice(
    "exceeded maximum nesting depth",  # libyaml 0.2.6 and later, far beyond our own limit
    f"nesting is deeper than {MAX_DEPTH} levels",
    "remove levels: no section of a recipe lies that deep",
)

_ADVICE = (
    TOO_DEEP,
    _Advice(
        "found unexpected end of stream",
        "this quote is never closed",
        "close it, or double the quotes inside it",
        at_start=True,
    ),
    _Advice("did not find expected ',' or ']'", "this `[` is never closed",
            "separate the items by `,` and end the list with `]`", at_start=True),
    _Advice("did not find expected ',' or '}'", "this `{` is never closed",
            "separate the keys by `,` and end the mapping with `}`", at_start=True),
    _Advice("could not find expected ':'", "there is no `:` after this key",
            "write `key: value`, with a space after the `:`", at_start=True),
    _Advice("did not find expected '-' indicator", "a list item is expected here",
            "begin each item with `- `, all in the same column"),
    _Advice("found character that cannot start any token", "no value can begin with this character",
            "put the value in quotes"),
    _Advice("found unknown escape character", "this `\\` escape does not exist",
            "write `\\\\` for a backslash, or use single quotes, where it has no meaning"),
    _Advice("found invalid Unicode character escape code", "this escape is no Unicode character",
            "write the character itself"),
    _Advice("block sequence entries are not allowed", "a list cannot begin here",
            "begin it on a line of its own, or write `[a, b]`; quote text that begins with `-`"),
    _Advice("did not find expected alphabetic or numeric character",
            "no value can begin with `*` or `&`", "put the value in quotes"),
    _Advice("found undefined tag handle", "no value can begin with `!`", "put the value in quotes"),
    _Advice("did not find expected <document start>", "the recipe ended above this line",
            "remove the `...` or `---` above it"),
)  # fmt: skip


def reader_mistakes(text: str, origin: Origin) -> list[Mistake]:
    """Tabs and unprintable characters, the first of each line."""
    mistakes = []
    for number, line in enumerate(origin.lines or (text,), start=1):
        if (column := line.find("\t")) >= 0:
            hint = 'indent with spaces; inside text write "\\t" in double quotes'
            mark = Mark(origin, number, column + 1)
            mistakes.append(Mistake(mark, "tab characters are not allowed", hint))
        if (found := _UNPRINTABLE.search(line)) is not None:
            code = f"U+{ord(found.group()):04X}"
            hint = "remove it; inside text write an escape in double quotes, e.g. `\\x1b`"
            mark = Mark(origin, number, found.start() + 1)
            mistakes.append(Mistake(mark, f"the character {code} is not allowed", hint))
    return mistakes


def syntax_mistake(error: yaml.YAMLError, origin: Origin) -> Mistake:
    """The mistake that a parser error stands for; one that is not known keeps libyaml's words."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem is None:
        return Mistake(Mark(origin, 1, 1), f"this is not YAML: {error}")
    if error.problem.startswith(_BY_LINE):
        return _judge_line(error.problem, _mark(error.problem_mark, origin))
    for advice in _ADVICE:
        if error.problem.startswith(advice.problem):
            mark = error.context_mark if advice.at_start else error.problem_mark
            return Mistake(_mark(mark, origin), advice.message, advice.hint)
    return Mistake(_mark(error.problem_mark, origin), f"this is not YAML: {error.problem}")


def _judge_line(problem: str, mark: Mark) -> Mistake:
    """The mistake of a problem whose meaning depends on the line that it was found in."""
    lines = mark.origin.lines or ("",)
    line = lines[mark.line - 1]
    before = line[: mark.column - 1]
    if problem == _NO_CONTENT:
        if not any(rest.strip() for rest in (line[mark.column - 1 :], *lines[mark.line :])):
            return Mistake(mark, "a value is missing at the end", "close each `[`, `{` and quote")
        hint = "remove a `,` or bracket too many, or quote a value that begins with one"
        return Mistake(mark, "a value is missing here", hint)
    if problem == _NO_KEY and before.rstrip().endswith(("'", '"', "]", "}")):
        hint = "put the whole value in quotes, or in the brackets"
        return Mistake(mark, "nothing may follow a closing quote or bracket", hint)
    start = Mark(mark.origin, mark.line, len(line) - len(line.lstrip()) + 1)
    if problem == _NO_KEY:
        return Mistake(start, "a key of the section above is expected here", _INDENTATION)
    if ": " in before:
        hint = 'put a value that contains `:` in quotes: `key: "a: b"`'
        return Mistake(mark, "a second `:` in one value", hint)
    message = "a key cannot begin here: the line above already has a value"
    return Mistake(start, message, _INDENTATION)


def _mark(mark: yaml.Mark | None, origin: Origin) -> Mark:
    """Ours from libyaml's, which counts from 0 and may lie behind the last line."""
    if mark is None:
        return Mark(origin, 1, 1)
    line = min(mark.line + 1, max(1, len(origin.lines)))
    return Mark(origin, line, mark.column + 1)
