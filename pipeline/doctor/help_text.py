"""The `--help` of a program that uses argparse, read back as data.

Written for `trtllm-build`, which formats with `ArgumentDefaultsHelpFormatter`: every help text ends
in `(default: X)`, unless the default is suppressed. Source: Python 3.12 `argparse.py`; TensorRT-LLM
1.2 `commands/build.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

COLUMNS = "4000"
"""Set in the environment of the program, so that argparse breaks no line of a help text."""

_INVOCATION = re.compile(r"^ {2}(?=-)")
_CHOICES = re.compile(r"\{([^{}]*)\}")
_DEFAULT = re.compile(r"\(default: (.*)\)\s*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Flag:
    """One option. `aliases`: its other spellings; `values`: its choices, None where it is open.

    `takes`: how many arguments; `default` as it is printed, None where it is not.
    """

    name: str
    aliases: tuple[str, ...]
    takes: str
    values: tuple[str, ...] | None
    default: str | None


def read_help(text: str) -> dict[str, Flag]:
    """Every long option by its first spelling; `--help` is left out."""
    flags = (_read_flag(invocation, words) for invocation, words in _entries(text))
    return {flag.name: flag for flag in flags if flag is not None and flag.name != "--help"}


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """Invocation and help text of each option; what is indented deeper belongs to it."""
    invocation: str | None = None
    words: list[str] = []
    for line in text.splitlines():
        if _INVOCATION.match(line):
            if invocation is not None:
                yield invocation, " ".join(words)
            # Two spaces end the invocation where its help stands on the same line.
            invocation, _, rest = line.strip().partition("  ")
            words = [rest.strip()]
        elif invocation is not None and line.startswith("   "):
            words.append(line.strip())
        elif invocation is not None:
            yield invocation, " ".join(words)
            invocation = None
    if invocation is not None:
        yield invocation, " ".join(words)


def _read_flag(invocation: str, words: str) -> Flag | None:
    spelled = [word for word in re.split(r"[ ,]+", _CHOICES.sub("", invocation)) if word]
    names = [word for word in spelled if word.startswith("--")]
    if not names:
        return None
    choices = _CHOICES.search(invocation)
    values = tuple(choices.group(1).split(",")) if choices else None
    arguments = [word for word in spelled if not word.startswith("-")]
    many = "..." in invocation
    takes = "many" if many else "one" if arguments or values else "nothing"
    default = _DEFAULT.search(words)
    return Flag(names[0], tuple(names[1:]), takes, values, default.group(1) if default else None)
