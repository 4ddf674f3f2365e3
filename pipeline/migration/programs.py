"""Which commands of a script belong to TensorRT-LLM's workflow, and their flags."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.migration.build_rows import OLD_BUILD, trtllm_build
from pipeline.migration.converter_rows import CONVERTER
from pipeline.migration.rows import Row, Table, spelling
from pipeline.migration.run_rows import RUN
from pipeline.migration.shell_script import Command
from pipeline.migration.shell_values import Field

Kind = Literal["convert", "build", "old build", "run"]


@dataclass(frozen=True, slots=True)
class Given:
    """A flag as it was given to a program: its row in the tables, if any, and its values."""

    program: str
    written: str
    name: str
    row: Row | None
    values: tuple[Field, ...]
    line: int
    place: int = 0

    @property
    def unknown(self) -> tuple[str, ...]:
        """Parts of its values that the script does not say."""
        return tuple(part for value in self.values for part in value.unknown)

    @property
    def shown(self) -> str:
        """The flag with its values, as a shell takes them."""
        return " ".join([self.written, *(_quoted(value) for value in self.values)])


def _quoted(value: Field) -> str:
    return value.text if value.unknown else shlex.quote(value.text)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command of the workflow. `script`: its program's name; `family`: the folder that a
    converter lies in, where it is written; `stray`: arguments that are no flags; `is_guess`: the
    program has another name, and is a converter only where a build takes what it writes.
    """

    kind: Kind
    script: str
    family: str | None
    command: Command
    given: tuple[Given, ...]
    stray: tuple[Field, ...]
    is_guess: bool = False

    def first(self, *keys: str) -> Given | None:
        """The flag that was given last for one of these keys of the tables: the last one counts."""
        found = [each for each in self.given if each.row is not None and each.row.key in keys]
        return found[-1] if found else None


_LAUNCHERS = re.compile(
    r"python[0-9.]*|mpirun|mpiexec|srun|docker|podman|nvidia-docker|env|sudo|time|nohup|exec|uv"
    r"|poetry|conda|singularity|apptainer|numactl|taskset|nsys|trtllm-llmapi-launch|kubectl|yes"
    r"|torchrun|accelerate|\$[A-Z_]*PYTHON[A-Z_]*|\$\{?[A-Z_]*PYTHON[A-Z_]*\}?"
)
_HF_CONVERTER = re.compile(r"hf_\w+_convert\.py|convert_hf_\w+_to_ft\.py")
_SCRIPTS: dict[str, Kind] = {
    "trtllm-build": "build",
    "trtllm_build": "build",
    "convert_checkpoint.py": "convert",
    "quantize.py": "convert",
    "build.py": "old build",
    "run.py": "run",
}
_MARKS = {
    "quantize.py": {"qformat", "kv_cache_dtype", "awq_block_size"},
    "build.py": set(OLD_BUILD) | {"model_dir", "max_output_len"},
    "run.py": {"engine_dir", "max_output_len"},
}
"""Scripts with an everyday name are TensorRT-LLM's where they get one of these flags."""


def find_invocation(command: Command) -> Invocation | None:
    """The invocation that a command is, or None for a command of another kind."""
    words = command.words
    for place, word in enumerate(words):
        script = posixpath.basename(word.text)
        if word.text == "tensorrt_llm.commands.build" and words[place - 1].text == "-m":
            script = "trtllm-build"
        kind = "convert" if _HF_CONVERTER.fullmatch(script) else _SCRIPTS.get(script)
        if kind is not None and (not place or _is_launched(words)):
            family = posixpath.basename(posixpath.dirname(command.path(word).text)) or None
            given, stray = read_flags(script, words[place + 1 :], tables_of(kind), command.line)
            marks = _MARKS.get(script)
            if marks is None or any(each.name in marks for each in given):
                return Invocation(kind, script, family, command, tuple(given), tuple(stray))
    return _guessed(command)


def _guessed(command: Command) -> Invocation | None:
    """A script of another name, or of one that is not known, with the flags of a converter."""
    words = command.words
    for place, word in enumerate(words[1:], 1):
        if not (word.text.endswith(".py") or word.unknown) or not _is_launched(words):
            continue
        script = posixpath.basename(word.text)
        given, stray = read_flags(script, words[place + 1 :], (CONVERTER,), command.line)
        keys = {each.row.key for each in given if each.row is not None}
        if {"~model_dir", "~output_dir"} <= keys:
            return Invocation("convert", script, None, command, tuple(given), tuple(stray), True)
    return None


def _is_launched(words: Sequence[Field]) -> bool:
    return _LAUNCHERS.fullmatch(posixpath.basename(words[0].text)) is not None


def tables_of(kind: Kind) -> tuple[Table, ...]:
    """Where the flags of a program are looked up, first match first."""
    if kind == "convert":
        return (CONVERTER,)
    if kind == "run":
        return (RUN,)
    if kind == "build":
        return (trtllm_build(), OLD_BUILD, CONVERTER)
    return (OLD_BUILD, CONVERTER, trtllm_build())


def read_flags(
    program: str, words: Sequence[Field], tables: Sequence[Table], line: int
) -> tuple[list[Given], list[Field]]:
    """Flags with their values, as argparse would split them, and what is neither."""
    given: list[Given] = []
    stray: list[Field] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not _is_flag(word):
            stray.append(word)
            continue
        written, is_joined, joined = word.text.partition("=")
        name, row = _find_row(written, tables)
        values: list[Field] = []
        if is_joined:
            values = [Field(joined, word.unknown)]
        else:
            most = {"nothing": 0, "several": len(rest)}.get(row.takes if row else "", 1)
            while rest and len(values) < most and not _is_flag(rest[0]):
                values.append(rest.pop(0))
        given.append(Given(program, written, name, row, tuple(values), line, len(given)))
    return given, stray


def _is_flag(word: Field) -> bool:
    return re.match(r"--?[A-Za-z]", word.text) is not None


def _find_row(written: str, tables: Sequence[Table]) -> tuple[str, Row | None]:
    """The row of a flag; argparse also takes the beginning of a flag, where only one has it."""
    name = spelling(written)
    for table in tables:
        if name in table:
            return name, table[name]
    if written.startswith("--") and len(name) > 3:
        begun = {each for each in tables[0] if each.startswith(name)}
        if len(begun) == 1:
            (whole,) = begun
            return whole, tables[0][whole]
    return name, None
