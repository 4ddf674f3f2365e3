"""Where models come from in a script: `huggingface-cli download`, `git clone` from the hub."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.migration.shell_script import Command
from pipeline.migration.shell_values import Field

REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_HUB = re.compile(
    r"(?:https?://(?:[^@/\s]+@)?|(?:ssh://)?git@)(?:huggingface\.co|hf\.co)[:/](?P<repo>[^\s?#]+?)"
    r"(?:\.git)?/?"
)
_OTHER_KINDS = ("datasets/", "spaces/")
_OLD_NAMES = {
    name: f"openai-community/{name}" for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
}
"""Repos that the hub moved below an owner (its own redirects)."""

_VALUED = frozenset(
    {
        "--revision", "--local-dir", "--include", "--exclude", "--cache-dir", "--token",
        "--repo-type", "--max-workers", "--local-dir-use-symlinks", "-b", "--branch", "--depth",
        "-c", "--filter", "-j", "--jobs",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Download:
    """A repo of the hub in a local folder. `revision`: None for its main branch."""

    repo: str
    revision: str | None
    folder: str


def find_download(command: Command) -> Download | None:
    """The download that a command is, if it is one of a model whose name is known."""
    texts = [word.text for word in command.words]
    flags, others = _take_apart(command.words[1:])
    name = posixpath.basename(texts[0])
    if name in ("huggingface-cli", "hf") and others[:1] == ["download"] and len(others) > 1:
        folder = flags.get("--local-dir")
        if flags.get("--repo-type", "model") != "model" or folder is None:
            return None
        repo = full_name(others[1])
        return _download(command, repo, flags.get("--revision"), folder)
    if name in ("git", "git-lfs") and "clone" in others:
        return _clone(command, flags, others[others.index("clone") + 1 :])
    return None


def _clone(command: Command, flags: dict[str, str], others: Sequence[str]) -> Download | None:
    match = _HUB.fullmatch(others[0]) if others else None
    if match is None or match["repo"].startswith(_OTHER_KINDS):
        return None
    folder = others[1] if len(others) > 1 else posixpath.basename(match["repo"])
    revision = flags.get("-b") or flags.get("--branch")
    return _download(command, full_name(match["repo"]), revision, folder)


def _download(
    command: Command, repo: str | None, revision: str | None, folder: str
) -> Download | None:
    if repo is None:
        return None
    return Download(repo, revision, command.path(Field(folder)).text)


def full_name(name: str) -> str | None:
    """The repo `owner/name`, or None for what is none."""
    name = _OLD_NAMES.get(name, name)
    return name if REPO.fullmatch(name) else None


def _take_apart(words: Sequence[Field]) -> tuple[dict[str, str], list[str]]:
    flags: dict[str, str] = {}
    others = []
    rest = [word.text for word in words]
    while rest:
        word = rest.pop(0)
        flag, is_joined, value = word.partition("=")
        if not word.startswith("-"):
            others.append(word)
        elif is_joined:
            flags[flag.replace("_", "-")] = value
        elif flag.replace("_", "-") in _VALUED and rest:
            flags[flag.replace("_", "-")] = rest.pop(0)
    return flags, others
