"""A shell script as the commands that it would start, with their arguments and folders.

The script is followed from top to bottom, through every branch and into functions, `( )` and
`bash -c`; nothing is executed. A variable that branches set differently has no known value.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import UsageError
from pipeline.migration.shell_loops import LOOPS, MAX_TURNS, end_of_loop, literal
from pipeline.migration.shell_reader import read_statements
from pipeline.migration.shell_values import Field, Variables, expand
from pipeline.migration.shell_words import Piece, Statement, Word

MAX_COMMANDS = 2000
"""Commands, and likewise assignments and the like, that are followed."""

MAX_NESTED = 3
"""Scripts given as text to `bash -c`, inside each other."""

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")
_OPENING = LOOPS | {"if", "case"}
_CLOSING = frozenset({"fi", "done", "esac"})
_BETWEEN = frozenset({"then", "else", "elif", "do", "{", "}", "!", "time", "function"})
_DECLARING = frozenset({"export", "local", "declare", "readonly", "typeset", "ENV", "ARG"})
_SHELLS = frozenset({"bash", "sh", "zsh"})


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its words, the line where it begins, and the folder that it would start in.

    `is_piped`: it reads what another one writes. `is_conditional`: it stands in a branch or a loop.
    """

    words: tuple[Field, ...]
    line: int
    folder: Field
    is_piped: bool = False
    is_conditional: bool = False

    def path(self, written: Field) -> Field:
        """A path as seen from the folder that the script starts in, or an absolute one."""
        text = written.text
        if text.startswith(("/", "~", "$")):
            return Field(_normal(text), written.unknown)
        joined = _normal(posixpath.join(self.folder.text, text))
        return Field(joined, (*self.folder.unknown, *written.unknown))


def _normal(path: str) -> str:
    return posixpath.normpath(path) if path else path


def read_script(text: str, given: Mapping[str, str] | None = None) -> list[Command]:
    """The commands of a script, in its order. `given`: variables that are set before it starts.

    Raises UsageError where the text is not a script, or has more than `MAX_COMMANDS` commands.
    """
    start: Variables = {name: (Field(value),) for name, value in (given or {}).items()}
    walk = _Walk(start, frozenset(start))
    walk.follow(read_statements(text), nested=0)
    return walk.commands


@dataclass(slots=True)
class _Walk:
    """Where the script stands: variables, folder, open brackets and branches.

    `given`: variables whose value the user says, where the script takes it from outside.
    """

    variables: Variables
    given: frozenset[str] = frozenset()
    folder: Field = field(default_factory=lambda: Field("."))
    commands: list[Command] = field(default_factory=list)
    folders: list[Field] = field(default_factory=list)
    brackets: list[Field] = field(default_factory=list)
    branches: int = 0
    earlier: Field = field(default_factory=lambda: Field("."))
    steps: int = 0

    def follow(self, statements: Sequence[Statement], nested: int) -> None:
        place = 0
        while place < len(statements):
            statement = statements[place]
            self.steps += 1
            self._count(self.steps)
            end = self._turns(statements, place, nested)
            if end is not None:
                place = end + 1
                continue
            place += 1
            is_pattern = statement.end == ")" and not self.brackets
            if statement.end != "(" and not is_pattern:
                self._statement(statement, nested)
            if statement.end == "(":
                self.brackets.append(self.folder)
            elif statement.end == ")" and self.brackets:
                self.folder = self.brackets.pop()

    def _turns(self, statements: Sequence[Statement], place: int, nested: int) -> int | None:
        """Follow each turn of a `for` over known values; the place of its end if it is one."""
        words = [word for word in statements[place].words if literal(word) not in _BETWEEN]
        if len(words) < 4 or literal(words[0]) != "for" or literal(words[2]) != "in":
            return None
        name = literal(words[1])
        values = [field for word in words[3:] for field in expand(word, self.variables)]
        end = end_of_loop(statements, place)
        if name is None or end is None or not 1 < len(values) <= MAX_TURNS:
            return None
        if any(value.unknown or "*" in value.text for value in values):
            return None
        for value in values:
            self.variables[name] = (value,)
            self.follow(statements[place + 1 : end], nested)
        return end

    def _statement(self, statement: Statement, nested: int) -> None:
        words = self._without_reserved(list(statement.words))
        if words and literal(words[0]) in _DECLARING:
            words = [word for word in words[1:] if _assigned(word)]
        while words and (assigned := _assigned(words[0])):
            if not any(_assigned(word) is None for word in words):
                self._assign(*assigned)
            words = words[1:]
        if not words:
            return
        self.variables["PWD"] = (self.folder,)
        fields = [field for word in words for field in expand(word, self.variables)]
        fields = _without_prompt(fields)
        if fields:
            command = Command(
                tuple(fields),
                statement.line,
                self.folder,
                is_piped=statement.is_piped,
                is_conditional=self.branches > 0,
            )
            self._command(command, nested)

    def _without_reserved(self, words: list[Word]) -> list[Word]:
        """The words behind `if`, `then`, `do` and the like; branches are counted."""
        for place, word in enumerate(words):
            first = literal(word)
            if first in _OPENING:
                self.branches += 1
            elif first in _CLOSING:
                self.branches = max(0, self.branches - 1)
            elif first not in _BETWEEN:
                return words[place:]
            if first in ("for", "select"):
                self._loop(words[place + 1 :])
            if first in ("for", "select", "case", "function"):
                return []
        return []

    def _loop(self, words: Sequence[Word]) -> None:
        """The variable of a loop is known where it goes over one value."""
        if not words or (name := literal(words[0])) is None:
            return
        values = [field for word in words[2:] for field in expand(word, self.variables)]
        self.variables[name] = tuple(values) if len(values) == 1 else (_unknown(name),)

    def _assign(self, name: str, is_more: bool, word: Word) -> None:
        array = next((piece for piece in word if piece.kind == "array"), None)
        if array is not None and array.words is not None:
            value = tuple(f for item in array.words for f in expand(item, self.variables))
        else:
            value = (sum(expand(_quoted(word), self.variables), Field("")),)
        before = self.variables.get(name)
        if is_more and before is not None:
            value = (*before, *value) if array is not None else (before[-1] + value[-1],)
        elif name in self.given and any(field.unknown for field in value):
            return
        elif self.branches and before is not None and before != value:
            value = (_unknown(name),)
        self.variables[name] = value

    def _command(self, command: Command, nested: int) -> None:
        name, *arguments = command.words
        if name.text in ("cd", "pushd", "popd", "WORKDIR"):
            self._change_folder(name.text, command, arguments)
            return
        if name.text in ("read", "unset"):
            self.variables |= {f.text: (_unknown(f.text),) for f in arguments}
        script = _script_of(command)
        if script is not None and nested < MAX_NESTED:
            self._follow_nested(script, command, nested)
            return
        self.commands.append(command)
        self._count(len(self.commands))

    def _count(self, number: int) -> None:
        if number > MAX_COMMANDS:
            raise UsageError(f"the script has more than {MAX_COMMANDS} commands")

    def _follow_nested(self, script: str, command: Command, nested: int) -> None:
        """A script inside a script has its own folder and variables."""
        inside = _Walk(
            dict(self.variables),
            self.given,
            self.folder,
            self.commands,
            branches=self.branches,
            steps=self.steps,
        )
        inside.follow(read_statements(script, command.line), nested + 1)
        self.steps = inside.steps

    def _change_folder(self, name: str, command: Command, arguments: Sequence[Field]) -> None:
        targets = [field for field in arguments if not field.text.startswith("-")]
        if name == "popd":
            self.folder = self.folders.pop() if self.folders else self.folder
        elif name == "cd" and [field.text for field in arguments] == ["-"]:
            self.folder, self.earlier = self.earlier, self.folder
        else:
            if name == "pushd":
                self.folders.append(self.folder)
            home = Field("~", ("~",))
            self.earlier = self.folder
            self.folder = command.path(targets[0]) if targets else home


_PROMPT = re.compile(r"[\w.-]+@[\w.-]+:\S*[#$]")
_PROMPT_IN_BRACKETS = re.compile(r"\[[\w.-]+@[\w.-]+ \S+\][#$]")


def _without_prompt(fields: list[Field]) -> list[Field]:
    """A command without the prompt that was copied with it, or the `RUN` of a Dockerfile."""
    while fields:
        first = fields[0].text
        if first in ("$", "", "RUN") or _PROMPT.fullmatch(first):
            fields = fields[1:]
        elif _PROMPT_IN_BRACKETS.fullmatch(" ".join(field.text for field in fields[:2])):
            fields = fields[2:]
        else:
            break
    return fields


def _assigned(word: Word) -> tuple[str, bool, Word] | None:
    """For `NAME=value` and `NAME+=value`: the name, whether it is added to, and the value."""
    if not word or word[0].kind != "text" or word[0].is_quoted:
        return None
    match = _ASSIGNMENT.match(word[0].text)
    if match is None:
        return None
    rest = word[0].text[match.end() :]
    return match[1], bool(match[2]), (Piece("text", rest, rest), *word[1:])


def _quoted(word: Word) -> Word:
    """The word with its variables quoted: an assignment does not split them."""
    return tuple(
        Piece(piece.kind, piece.text, piece.raw, is_quoted=True, words=piece.words)
        for piece in word
    )


def _script_of(command: Command) -> str | None:
    """The text that a command gives to a shell: `bash -c TEXT`, also behind `docker run`."""
    words = command.words
    for place in range(len(words) - 2):
        is_shell = posixpath.basename(words[place].text) in _SHELLS
        if is_shell and re.fullmatch(r"-[a-z]*c", words[place + 1].text):
            return words[place + 2].text
    return None


def _unknown(name: str) -> Field:
    return Field(f"${name}", (f"${name}",))
