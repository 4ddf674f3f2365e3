"""Loops of a shell script: where their bodies are."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.migration.shell_words import Statement, Word

LOOPS = frozenset({"while", "until", "for", "select"})
_BEFORE_COMMANDS = frozenset({"if", "then", "else", "elif", "do", "{", "}", "!", "time", "fi"})

MAX_TURNS = 32
"""Turns of a loop that are followed; of a longer one its variable has no known value."""


def end_of_loop(statements: Sequence[Statement], start: int) -> int | None:
    """The place of the `done` of the loop that the statement at `start` begins, if it has one."""
    depth = 0
    for place in range(start, len(statements)):
        for first in _first_words(statements[place]):
            depth += (first in LOOPS) - (first == "done")
            if first == "done" and not depth:
                return place
    return None


def literal(word: Word) -> str | None:
    """The text of a word that has no quotes and no variables."""
    if len(word) == 1 and word[0].kind == "text" and not word[0].is_quoted:
        return word[0].text
    return None


def _first_words(statement: Statement) -> list[str]:
    """Reserved words at the beginning of a statement, and the word behind them."""
    found = []
    for word in statement.words:
        text = literal(word)
        if text is None:
            break
        found.append(text)
        if text not in _BEFORE_COMMANDS:
            break
    return found
