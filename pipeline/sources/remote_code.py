"""Python code that a source brings: which files its `auto_map` needs, and whether they are those
that the recipe names (`source.remote_code`). The code is parsed here and never executed.

Transformers loads what `auto_map` names and what that imports relatively, file by file (5.24,
`dynamic_module_utils.py`, get_relative_import_files). A file that is not named by the recipe is not
fetched, so that nothing else can be loaded; an import of one is found before anything is.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from pipeline.artifact import Json
from pipeline.checkpoint.huggingface import CONFIG_NAME
from pipeline.checkpoint.strict_json import listed, printable
from pipeline.errors import RecipeError, VerificationError
from pipeline.files.folders import entries_below
from pipeline.files.regular import read_small

MAX_CODE_BYTES = 1 << 20
"""Of one file; the largest published model file has some 200 kB."""

MODEL_KEY = "AutoModelForCausalLM"

NOT_LOADED = frozenset(
    {"AutoTokenizer", "AutoProcessor", "AutoImageProcessor", "AutoFeatureExtractor"}
)
"""Keys of `auto_map` that a comparison of logits does not load."""

_REFERENCE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\.[A-Za-z_]\w*", re.ASCII)


def check_code(
    named: Mapping[str, str], config: Mapping[str, Json], read: Callable[[str], bytes]
) -> None:
    """Hold the code of a source against what the recipe names: name -> SHA-256 in hex.

    `config` is the source's config.json, `read` gives the bytes of a named file. Raises RecipeError
    where other files are needed than are named, VerificationError where a file is another one.
    """
    codes = {name: read(name) for name in sorted(named)}
    _check_digests(named, {name: hashlib.sha256(code).hexdigest() for name, code in codes.items()})
    needed = _entries(config)
    waiting = sorted(needed)
    while waiting:
        name = waiting.pop()
        if name in codes:
            found = set(_imports(name, codes[name])) - needed.keys()
            needed |= dict.fromkeys(found, f"`{name}` imports it")
            waiting += sorted(found)
    unnamed = [f"`{name}`: {why}" for name, why in sorted(needed.items()) if name not in named]
    if unnamed:
        raise RecipeError(
            f"the source needs {len(unnamed)} Python files that `source.remote_code` does not name",
            facts=listed(unnamed),
            hint="read them, and add each with its SHA-256",
        )
    unused = [f"`{name}`" for name in sorted(named.keys() - needed.keys())]
    if unused:
        raise RecipeError(
            "`source.remote_code` names files that nothing needs",
            facts=listed(unused),
            hint="remove them: no more code is to be allowed than is executed",
        )


def check_code_folder(named: Mapping[str, str], folder: Path) -> None:
    """The last look before code is executed: just the named files are there, as they were read.

    Raises VerificationError, and OSError where one cannot be read.
    """
    paths = [Path(entry.path) for entry in entries_below(folder)]
    names = {path.relative_to(folder).as_posix() for path in paths if path.suffix == ".py"}
    if names != named.keys():
        odd = listed([f"`{printable(name)}`" for name in sorted(names ^ named.keys())])
        raise VerificationError(f"`{folder}` has other Python files than the recipe", facts=odd)
    found = {name: read_small(folder / name, MAX_CODE_BYTES) for name in named}
    _check_digests(named, {name: hashlib.sha256(code).hexdigest() for name, code in found.items()})


def _check_digests(named: Mapping[str, str], found: Mapping[str, str]) -> None:
    changed = [
        f"`{name}`: SHA-256 {found[name]}, the recipe says {digest}"
        for name, digest in sorted(named.items())
        if found[name] != digest
    ]
    if changed:
        raise VerificationError(
            "Python code of the source is not what `source.remote_code` names",
            facts=changed,
            hint="read the files again before their digests go into the recipe",
        )


def _entries(config: Mapping[str, Json]) -> dict[str, str]:
    """The files that `auto_map` names, each with what names it."""
    auto_map = config.get("auto_map")
    if not isinstance(auto_map, dict) or MODEL_KEY not in auto_map:
        raise RecipeError(
            f"`source.remote_code` is given, but `{CONFIG_NAME}` has no `auto_map` with "
            f"`{MODEL_KEY}`",
            hint="remove `source.remote_code`: nothing would be executed",
        )
    found = {}
    for key, reference in auto_map.items():
        if key in NOT_LOADED:
            continue
        match = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
        if match is None:
            raise RecipeError(
                f"`auto_map` of `{CONFIG_NAME}` has `{printable(key)}`: "
                f"`{printable(str(reference))}`, expected a class in a file of the source",
                hint="code of another repo is never executed; use a copy of the source that has it",
            )
        found[f"{match[1].replace('.', '/')}.py"] = f"`{key}` of `auto_map` names it"
    return found


def _imports(name: str, code: bytes) -> Iterator[str]:
    """The files that a file imports relatively."""
    if len(code) > MAX_CODE_BYTES:
        raise VerificationError(f"`{name}` has {len(code)} bytes, more than {MAX_CODE_BYTES}")
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise VerificationError(f"`{name}` is not Python: {printable(str(error))}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield from _imported(name, node)


def _imported(name: str, node: ast.ImportFrom) -> Iterator[str]:
    folder = PurePosixPath(name).parent
    if node.level > 1 + len(folder.parts):
        raise RecipeError(f"`{name}` imports from outside of the source, in line {node.lineno}")
    for _ in range(node.level - 1):
        folder = folder.parent
    if node.module is not None:
        yield str(folder / f"{node.module.replace('.', '/')}.py")
    else:
        yield from (str(folder / f"{alias.name}.py") for alias in node.names)
