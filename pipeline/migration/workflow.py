"""Which converter, build and run of a script belong together: one engine each."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pipeline.migration.downloads import Download, find_download
from pipeline.migration.programs import Given, Invocation, find_invocation
from pipeline.migration.shell_script import Command
from pipeline.migration.shell_values import Field

RANKS_FOLDER = re.compile(r"[0-9]+-gpus?")
"""What the converters of 0.5 to 0.7 wrote inside the folder that they were given."""

CHECKPOINT_DEFAULT, ENGINE_DEFAULT = "tllm_checkpoint", "engine_outputs"
_QUIET = frozenset({
    "echo", "printf", "set", "mkdir", "rm", "cp", "mv", "ls", "cat", "touch", "true", "false",
    "exit", "return", "test", "[", "[[", ":", "sleep", "date", "source", ".", "alias", "chmod",
    "chown", "du", "df", "local", "shift", "wait", "kill", "trap", "ulimit", "ln", "tee", "sed",
    "awk", "grep", "find", "tar", "unzip", "export", "which", "nvidia-smi", "head", "tail",
    "read", "unset", "break", "continue",
})  # fmt: skip
"""Commands that say nothing about an engine, and need not be listed."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine of a script: what made its checkpoint, what built it, what ran it.

    `is_matched`: the checkpoint that was built is the one that the converter wrote.
    """

    converter: Invocation | None
    build: Invocation | None
    runs: tuple[Invocation, ...] = ()
    is_matched: bool = True


@dataclass(slots=True)
class Workflow:
    """All of a script that matters. `others`: commands that are not of this workflow."""

    engines: list[Engine] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)
    others: list[Command] = field(default_factory=list)
    unused: list[Invocation] = field(default_factory=list)


def read_workflow(commands: Sequence[Command]) -> Workflow:
    """Sort the commands of a script, and match converters, builds and runs by their folders."""
    found = Workflow()
    invocations: list[Invocation] = []
    last: Command | None = None
    for command in commands:
        if last is not None and command.words[0].text.startswith("--"):
            # Flags on a line of their own: the command before them was meant to go on.
            lost = (*invocations[-1].stray, *command.words)
            invocations[-1] = replace(invocations[-1], stray=lost)
            continue
        last = None
        if (invocation := find_invocation(command)) is not None:
            invocations.append(invocation)
            last = command
        elif (download := find_download(command)) is not None:
            found.downloads.append(download)
        elif not command.is_piped and command.words[0].text not in _QUIET:
            found.others.append(command)
    _match(invocations, found)
    return found


def folder_of(invocation: Invocation, key: str, default: str | None = None) -> str | None:
    """The folder that a flag names, as seen from where the script starts."""
    given = invocation.first(key)
    if given is None or not given.values:
        return None if default is None else invocation.command.path(Field(default)).text
    return invocation.command.path(given.values[0]).text


def _match(invocations: Sequence[Invocation], found: Workflow) -> None:
    converters: list[Invocation] = []
    built: list[tuple[Invocation | None, Invocation, bool]] = []
    for invocation in invocations:
        if invocation.kind == "convert":
            converters.append(invocation)
        elif invocation.kind in ("build", "old build"):
            built += _converters_of(invocation, converters)
    used = {id(converter) for converter, _, _ in built}
    left = [each for each in converters if id(each) not in used]
    found.unused = [each for each in left if not each.is_guess]
    found.others += [each.command for each in left if each.is_guess]
    if len(built) == 1 and len(found.unused) == 1 and _lacks_converter(built[0]):
        # One of each, with different folders: they are meant together, but it must be said.
        built = [(found.unused.pop(), built[0][1], False)]
    if not built:
        found.engines = [Engine(each, None) for each in found.unused]
        found.unused = []
    runs = [each for each in invocations if each.kind == "run"]
    for converter, build, is_matched in built:
        own = tuple(each for each in runs if _runs(each, build))
        found.engines.append(Engine(converter, build, own, is_matched))


def _lacks_converter(built: tuple[Invocation | None, Invocation, bool]) -> bool:
    return built[0] is None and built[1].kind == "build"


def _converters_of(
    build: Invocation, converters: Sequence[Invocation]
) -> list[tuple[Invocation | None, Invocation, bool]]:
    """The last converter that wrote what is built, or each of those that branches choose from.

    The converters of 0.5 wrote a folder `N-gpu` inside theirs.
    """
    found: list[tuple[Invocation | None, Invocation, bool]] = []
    read = folder_of(build, "~checkpoint_dir" if build.kind == "build" else "~model_dir")
    for converter in reversed(converters):
        written = folder_of(converter, "~output_dir", CHECKPOINT_DEFAULT)
        if read is None or written is None:
            continue
        inside = posixpath.dirname(read)
        is_ranks = RANKS_FOLDER.fullmatch(posixpath.basename(read)) is not None
        if read == written or (inside == written and is_ranks):
            found.insert(0, (converter, build, True))
            if not converter.command.is_conditional:
                break
    return found or [(None, build, True)]


def _runs(run: Invocation, build: Invocation) -> bool:
    engine = folder_of(build, "~output_dir", ENGINE_DEFAULT)
    ran = folder_of(run, "~engine_dir", ENGINE_DEFAULT)
    return ran is not None and ran == engine


def flag_of(invocation: Invocation | None, key: str) -> Given | None:
    """A flag of an invocation that may not be there."""
    return None if invocation is None else invocation.first(key)
