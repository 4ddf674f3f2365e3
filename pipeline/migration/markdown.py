"""The shell commands of a Markdown text: what stands in its fenced blocks."""

from __future__ import annotations

import re

from pipeline.errors import UsageError
from pipeline.migration.shell_reader import read_statements

_FENCE = re.compile(r"[ \t>]*(?P<mark>`{3,}|~{3,})[ \t]*\{?\.?(?P<language>[\w+#.-]*)[^`]*")
_OTHER_LANGUAGES = frozenset({
    "c", "c++", "cpp", "cuda", "diff", "html", "ini", "java", "javascript", "js", "json",
    "markdown", "md", "pbtxt", "proto", "py", "python", "python3", "rust", "sql", "toml",
    "typescript", "xml", "yaml", "yml",
})  # fmt: skip
_COMMANDS = re.compile(
    r"trtllm-build|commands\.build|convert_checkpoint\.py|convert\.py|build\.py|quantize\.py"
)
"""A block that no shell can read and that has none of these is output, and is left out."""


def without_markdown(text: str) -> str:
    """The fenced blocks alone, with every other line empty, so that lines keep their numbers.

    A text that begins with `#!`, or that has no fence, stays as it is.
    """
    lines = text.splitlines()
    if text.startswith("#!") or not any(_FENCE.fullmatch(line) for line in lines):
        return text
    found = [""] * len(lines)
    start, mark, language = 0, "", ""
    for number, line in enumerate([*lines, ""]):
        fence = _FENCE.fullmatch(line)
        if fence is not None and not mark:
            start, mark, language = number + 1, fence["mark"], fence["language"].lower()
        elif mark and (number == len(lines) or _closes(line, mark)):
            block = lines[start:number]
            if _is_shell(block, language):
                found[start:number] = block
            mark = ""
    return "\n".join(found) + "\n"


def _closes(line: str, mark: str) -> bool:
    bare = line.strip(" \t>")
    return bare.startswith(mark) and not bare.strip(mark[0])


def _is_shell(block: list[str], language: str) -> bool:
    if language in _OTHER_LANGUAGES:
        return False
    text = "\n".join(block)
    if _COMMANDS.search(text):
        return True
    try:
        read_statements(text)
    except UsageError:
        return False
    return True
