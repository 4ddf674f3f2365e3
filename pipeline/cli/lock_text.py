"""What `trtllm-pack lock` answers, for people: a diff that a reviewer can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.artifact import Json
from pipeline.console import format_bytes, printable
from pipeline.lock.document import asked_text
from pipeline.wording import counted

MAX_COLUMN = 48
"""Names up to this length are aligned."""

SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def lock_text(document: Mapping[str, Json], arguments: str) -> str:
    """What was done or would be, what changes by it, and what is not locked.

    `arguments` are those of the `lock` that would write it.
    """
    sources = document["sources"]
    num_files = sum(source["num_files"] for source in sources)
    size = format_bytes(sum(source["total_bytes"] for source in sources))
    told = f"{counted(len(sources), 'source')}, {counted(num_files, 'file')}, {size}"
    lines = [f"{_state(document)}: {told}"]
    lines += _change_lines(document["changes"])
    lines += [f"  {line}" for line in _not_locked(document["not_locked"])]
    if not document["up_to_date"] and not document["written"]:
        lines += ["", f"hint: run `trtllm-pack lock {arguments}` and review what it changes"]
    return printable("\n".join(lines))


def _state(document: Mapping[str, Json]) -> str:
    path = document["lock"]
    if document["up_to_date"]:
        return f"{path} is up to date"
    if document["written"]:
        return f"wrote {path}"
    return f"{path} is out of date" if document["existed"] else f"{path} does not exist"


def _change_lines(changes: Mapping[str, Json]) -> Iterator[str]:
    for source in changes["sources"]:
        yield from _source_lines(source)
    if changes["tools"]:
        yield "  tools"
    for tool in changes["tools"]:
        backend = f" ({tool['backend']})" if tool["backend"] else ""
        versions = _arrow(tool["from"], tool["to"])
        yield f"    {SIGNS[tool['change']]} {tool['name']}{backend}  {versions}"
    if changes["spelling"]:
        yield "  the same content, spelt another way"


def _source_lines(source: Mapping[str, Json]) -> Iterator[str]:
    """A source that is new or gone is one line; of one that changed, every file that did."""
    asked, commit, sign = source["asked"], source["commit"], SIGNS[source["change"]]
    if source["change"] != "changed":
        side = "to" if source["change"] == "added" else "from"
        at = f" at {commit[side]}" if commit[side] else ""
        size = format_bytes(source["total_bytes"][side])
        files = counted(source["num_files"][side], "file")
        yield f"  {sign} {asked_text(asked[side])}{at}: {files}, {size}"
        return
    before, after = asked_text(asked["from"]), asked_text(asked["to"])
    yield f"  {sign} {after}" + (f" (was {before})" if before != after else "")
    if commit["from"] != commit["to"]:
        yield f"      commit {_arrow(commit['from'], commit['to'])}"
    width = max((len(file["path"]) for file in source["files"]), default=0)
    for file in source["files"]:
        path = file["path"].ljust(min(width, MAX_COLUMN))
        yield f"      {SIGNS[file['change']]} {path}  {_file(file['from'], file['to'])}"


def _file(before: Mapping[str, Json] | None, after: Mapping[str, Json] | None) -> str:
    """Sizes, exact where they changed; of an equal size that the content did."""
    if before is None or after is None:
        return f"{(before or after or {})['size_bytes']:,} bytes"
    sizes = before["size_bytes"], after["size_bytes"]
    digests = f"SHA-256 {before['sha256'][:12]} -> {after['sha256'][:12]}"
    if sizes[0] != sizes[1]:
        return f"{sizes[0]:,} -> {sizes[1]:,} bytes, {digests}"
    if before["sha256"] != after["sha256"]:
        return f"{sizes[0]:,} bytes as before, {digests}"
    blobs = _arrow(before.get("git_blob"), after.get("git_blob"))
    return f"the same content, git blob {blobs}"


def _arrow(before: str | None, after: str | None) -> str:
    if before is None or after is None:
        return str(after if before is None else before)
    return f"{before} -> {after}"


def _not_locked(missing: Mapping[str, Json]) -> Iterator[str]:
    for backend in missing["backends"]:
        yield (
            f"not locked: the tools of `{backend}`, of which none is installed here; a frozen run "
            "that builds refuses until `trtllm-pack lock` ran where they are"
        )
    if missing["tools"]:
        names = ", ".join(missing["tools"])
        yield f"not locked, because not installed here: {names}"
