"""One recipe file and the files that it extends, read but not yet merged."""

from __future__ import annotations

import difflib
import errno
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import MachineError, RecipeError, VerificationError
from pipeline.files.regular import open_regular
from pipeline.recipe.mistakes import Mark, Mistake
from pipeline.recipe.nodes import BrokenNode, Entry, MapNode, Node, ScalarNode
from pipeline.recipe.strict_yaml import MAX_BYTES, parse_bytes
from pipeline.recipe.wrong_values import describe

MAX_PARENTS = 10
MAX_VARIANTS = 200

PARENT_SUFFIXES = (".yaml", ".yml")
"""A mistake shows its line: a recipe of others must not show `/etc/shadow` or `~/.ssh` so."""

_VARIANT_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """A file taken apart: what it says itself, what it extends, its variants."""

    path: Path
    body: MapNode
    extends: Entry | None
    variants: Mapping[str, MapNode]


@dataclass(slots=True)
class Chain:
    """The recipe file and its parents, nearest first; `is_whole` unless one cannot be used."""

    files: list[RecipeFile] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    is_whole: bool = True


def read_chain(path: Path) -> Chain:
    """Read a recipe and its parents.

    Raises RecipeError where there is no such recipe and MachineError where it may not be read; all
    else that is wrong is in the chain's mistakes.
    """
    chain = Chain()
    step: tuple[Path, bytes] | None = (path, _read_main(path))
    while step is not None:
        chain.paths.append(step[0])
        file = _take_apart(*step, chain)
        step = None
        if file is not None:
            chain.files.append(file)
            step = _find_parent(file, file.extends, chain) if file.extends else None
        chain.is_whole = file is not None and (step is not None or file.extends is None)
    return chain


def _read_main(path: Path) -> bytes:
    try:
        return _read(path)
    except PermissionError:
        hint = "look at its permissions with `ls -l`"
        raise MachineError(f"`{path}` may not be read", hint=hint) from None
    except IsADirectoryError:
        found = sorted(entry.name for entry in path.glob("*.yaml"))
        facts = [f"`{path / name}`" for name in found]
        hint = "name one of its recipes" if found else "name a recipe file"
        raise RecipeError(f"`{path}` is a folder", facts=facts, hint=hint) from None
    except (OSError, ValueError) as error:
        hint = _suggest_file(path) or "`trtllm-pack recipes init NAME` writes a new recipe"
        raise RecipeError(f"`{path}` cannot be read: {_reason(error)}", hint=hint) from None


def _read(path: Path) -> bytes:
    """At most one byte more than a recipe may have, which is enough to refuse it.

    Raises OSError where it cannot be read, ValueError for a pipe or a device, which may never end.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        with open_regular(path) as raw, io.BufferedReader(raw) as file:
            return file.read(MAX_BYTES + 1)
    except VerificationError:
        raise ValueError("it is not a regular file") from None


def _take_apart(path: Path, data: bytes, chain: Chain) -> RecipeFile | None:
    parsed = parse_bytes(data, str(path))
    chain.mistakes += parsed.mistakes
    root = parsed.node
    if not isinstance(root, MapNode):
        if root is not None and not isinstance(root, BrokenNode):
            chain.mistakes.append(_wrong_root(root))
        return None
    own = {key: at for key, at in root.entries.items() if key not in ("extends", "variants")}
    variants = _variants(root.entries.get("variants"), chain)
    return RecipeFile(path, MapNode(root.mark, own), root.entries.get("extends"), variants)


def _wrong_root(root: Node) -> Mistake:
    hint = "begin it with `name: ...` and `source: {repo: owner/name}`"
    if isinstance(root, ScalarNode) and root.text == "":
        return Mistake(Mark(root.mark.origin, 0, 0), "the file is empty", hint)
    found = describe(root)
    return Mistake(root.mark, f"a recipe is a mapping of keys to values, found {found}", hint)


def _variants(entry: Entry | None, chain: Chain) -> dict[str, MapNode]:
    if entry is None or isinstance(entry.node, BrokenNode):
        return {}
    hint = "write `variants: {NAME: {engine: ...}}`"
    if not isinstance(entry.node, MapNode):
        message = f"`variants` must have a section for each name, found {describe(entry.node)}"
        chain.mistakes.append(Mistake(_place(entry), message, hint))
        return {}
    if len(entry.node.entries) > MAX_VARIANTS:
        message = f"`variants` has {len(entry.node.entries)} variants, more than {MAX_VARIANTS}"
        chain.mistakes.append(Mistake(entry.key_mark, message, "use several files"))
        return {}
    variants = {}
    for name, variant in entry.node.entries.items():
        if not _VARIANT_NAME.fullmatch(name):
            message = f"`{name}` is not a name for a variant"
            names = "use lower-case letters and digits, with `.`, `_` or `-` between them"
            chain.mistakes.append(Mistake(variant.key_mark, message, names))
        if isinstance(variant.node, MapNode):
            variants[name] = variant.node
        elif not isinstance(variant.node, BrokenNode):
            message = f"variant `{name}` must be a section, found {describe(variant.node)}"
            chain.mistakes.append(
                Mistake(_place(variant), message, f"write `{name}: {{engine: ...}}`")
            )
    return variants


def _find_parent(file: RecipeFile, extends: Entry, chain: Chain) -> tuple[Path, bytes] | None:
    """Path and bytes of the file that this one extends, or None with a mistake."""
    node, mark = extends.node, _place(extends)
    if isinstance(node, BrokenNode):
        return None
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str) or not node.value:
        message = f"`extends` must be the path of one recipe, found {describe(node)}"
        hint = "write `extends: other.yaml`, relative to this file"
        chain.mistakes.append(Mistake(mark, message, hint))
        return None
    path = Path(os.path.normpath(file.path.parent / node.value))
    try:
        if (refusal := _refuse_parent(path, chain.paths)) is None:
            return path, _read(path)
        chain.mistakes.append(Mistake(mark, *refusal))
    except (OSError, ValueError) as error:
        hint = _suggest_file(path) or "the path counts from the folder of this file"
        message = f"the parent `{path}` cannot be read: {_reason(error)}"
        chain.mistakes.append(Mistake(mark, message, hint))
    return None


def _refuse_parent(path: Path, paths: Sequence[Path]) -> tuple[str, str] | None:
    """Why the path cannot be the next parent, and what to do; raises OSError and ValueError."""
    if os.path.realpath(path) in [os.path.realpath(each) for each in paths]:
        steps = " -> ".join(f"`{each}`" for each in (*paths, path))
        return f"recipes extend each other in a circle: {steps}", "remove one of their `extends`"
    if len(paths) > MAX_PARENTS:
        return f"a recipe may have at most {MAX_PARENTS} parents", "put some of them together"
    if path.exists() and not path.is_file():
        return f"the parent `{path}` is not a file", "name a recipe file"
    if path.suffix not in PARENT_SUFFIXES:
        return f"the parent `{path}` has no name of a recipe", "name a file that ends in `.yaml`"
    return None


def _place(entry: Entry) -> Mark:
    """The value where it is one line, else its key."""
    is_single = isinstance(entry.node, ScalarNode) and entry.node.text != ""
    return entry.node.mark if is_single else entry.key_mark


def _reason(error: OSError | ValueError) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[0].lower() + text[1:]


def _suggest_file(path: Path) -> str | None:
    """The recipe in the same folder whose name is nearest."""
    try:
        names = sorted(entry.name for entry in path.parent.glob("*.yaml"))
    except (OSError, ValueError):
        return None
    nearest = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean `{path.parent / nearest[0]}`?" if nearest else None
