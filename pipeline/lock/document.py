"""The lock document: its models, and the one spelling of its bytes.

Its words are those of a release's `lock` (`release/manifest.py`): sources have `kind`, `commit` and
`files` with `path`, `size_bytes`, `sha256`; tools are names and versions. A lock says besides what
was asked, for every variant of a recipe, and which tools belong to which engine backend. It holds
no time, no host, and no path but one that the recipe itself writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, StringConstraints, model_validator

from pipeline.artifact import Json, canonical_json
from pipeline.checkpoint.strict_json import printable
from pipeline.installed import VERSION
from pipeline.sources.listing import SourceFile

FORMAT: Final = 1
SUFFIX = ".lock.json"
MAX_SIZE_BYTES = (1 << 63) - 1
MAX_SOURCES = 256
"""A recipe has at most 200 variants."""

MAX_FILES = 20_000
"""Of one source; the largest known checkpoints have some 200 weight files."""

Hex40 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Version = Annotated[str, StringConstraints(pattern=rf"^{VERSION}$")]
Tools = Mapping[ToolName, Version]


class Part(BaseModel):
    """A part of the lock: unknown keys are errors, values are never coerced or changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LockedFile(Part):
    """One needed file: its name below the source's root, size, SHA-256.

    `git_blob` is git's object id, where a hub publishes that instead: so a frozen plan can compare
    the hub's listing before anything is fetched.
    """

    path: str
    size_bytes: Annotated[int, Field(ge=0, le=MAX_SIZE_BYTES)]
    sha256: Sha256
    git_blob: Hex40 | None = None

    def source_file(self) -> SourceFile:
        """The same, as listings have it."""
        return SourceFile(self.path, self.size_bytes, self.sha256, self.git_blob)


# The first wrong entry ends the reading: a hostile lock may have a hundred thousand.
Files = Annotated[tuple[LockedFile, ...], Field(min_length=1, max_length=MAX_FILES), FailFast()]


class LockedSource(Part):
    """What was asked, in the words of a recipe's `source`, and what that was."""

    asked: Annotated[Mapping[str, Json], Field(min_length=1)]
    kind: Word
    commit: Commit | None
    files: Files

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> LockedSource:
        if (self.kind == "local") != (self.commit is None):
            raise ValueError("a folder has no `commit`, all other sources have one")
        if ("path" in self.asked) != (self.kind == "local"):
            raise ValueError("`kind` does not fit what was `asked`")
        paths = [file.path for file in self.files]
        if paths != sorted(set(paths)):
            raise ValueError("`files` is not sorted by `path`, or has one twice")
        return self

    @property
    def key(self) -> bytes:
        """What was asked, as bytes that can be compared and sorted."""
        return canonical_json(self.asked)

    @property
    def total_bytes(self) -> int:
        """Sum of the file sizes."""
        return sum(file.size_bytes for file in self.files)


Sources = Annotated[
    tuple[LockedSource, ...], Field(min_length=1, max_length=MAX_SOURCES), FailFast()
]


class Lock(Part):
    """All that was pinned for a recipe and its variants: give these again, the same follows.

    `tools` are packages whose work is in artifacts, by distribution name; `build_tools` those of
    each engine backend. What was not installed where the lock was made is absent.
    """

    format: Literal[1]
    sources: Sources
    tools: Tools
    build_tools: Mapping[Word, Tools]

    @model_validator(mode="after")
    def _is_sorted(self) -> Lock:
        keys = [source.key for source in self.sources]
        if keys != sorted(set(keys)):
            raise ValueError("`sources` is not sorted by `asked`, or has one twice")
        return self

    def find(self, asked: Mapping[str, Json]) -> LockedSource | None:
        """What was locked for this, or None."""
        key = canonical_json(asked)
        return next((source for source in self.sources if source.key == key), None)


def lock_path(recipe: Path) -> Path:
    """The lock file of a recipe: `<stem>.lock.json` beside it."""
    return recipe.with_name(recipe.stem + SUFFIX)


def encode(lock: Lock) -> bytes:
    """The bytes of a lock: a line for each file and tool, in a fixed order."""
    sources = ",\n".join("\n".join(_source_lines(source)) for source in lock.sources)
    lines = [
        "{",
        f'  "format": {lock.format},',
        '  "sources": [',
        sources,
        "  ],",
        f'  "tools": {_one_a_line(lock.tools, "  ")},',
        f'  "build_tools": {_groups(lock.build_tools)}',
        "}",
    ]
    return ("\n".join(lines) + "\n").encode()


def asked_text(asked: Mapping[str, Json]) -> str:
    """What was asked, for people: `owner/name main`, or a folder; more keys as they are."""
    rest = dict(asked)
    first = [rest.pop(key) for key in ("repo", "path", "revision") if key in rest]
    more = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in rest.items()]
    return printable(" ".join([*map(str, first), *more]))


def _source_lines(source: LockedSource) -> Iterator[str]:
    yield "    {"
    yield f'      "asked": {_spell(dict(sorted(source.asked.items())))},'
    yield f'      "kind": {_spell(source.kind)},'
    yield f'      "commit": {_spell(source.commit)},'
    yield '      "files": ['
    files = [f"        {_spell(file.model_dump(exclude_none=True))}" for file in source.files]
    yield ",\n".join(files)
    yield "      ]"
    yield "    }"


def _groups(groups: Mapping[str, Mapping[str, str]]) -> str:
    if not groups:
        return "{}"
    lines = [f"    {_spell(name)}: {_one_a_line(groups[name], '    ')}" for name in sorted(groups)]
    return "{\n" + ",\n".join(lines) + "\n  }"


def _one_a_line(tools: Mapping[str, str], indent: str) -> str:
    if not tools:
        return "{}"
    lines = [f"{indent}  {_spell(name)}: {_spell(tools[name])}" for name in sorted(tools)]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def _spell(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)
