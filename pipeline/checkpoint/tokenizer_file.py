"""What tokenizer files of untrusted origin must not ask for, before their library loads them.

The library is written in Rust: what asks for too much memory there, or has a table that ends too
early, ends the whole process, and cannot be caught. Source of the format: tokenizers 0.23,
`normalizers/`, `processors/template.rs`; the table of `Precompiled` is that of SentencePiece 0.2,
`normalizer.cc` (`DecodePrecompiledCharsMap`: the size of the trie, then the trie, then the texts).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import Limits, listed, printable, read_object
from pipeline.errors import VerificationError
from pipeline.system.refusals import file_error

TOKENIZER_NAME = "tokenizer.json"
CONFIG_NAME = "tokenizer_config.json"

LIMITS = Limits(128 << 20, 1 << 23, max_wide_bytes=128 << 20)
"""Of `tokenizer.json`: those of 260,000 tokens have 34 MB and some 2.5 million items. The worst one
within these limits takes about 1.5 GB to read."""

MAX_GROWTH = 100_000
"""How many times as long a text may become in all steps together, if each could do its worst; real
ones stay below 100, and prompts have some thousand characters."""

MAX_STEPS = 1000
"""Of one part of a tokenizer; real ones have some ten. Each may go over the text."""

MAX_TEMPLATE_TOKENS = 10_000
"""That a template adds to each text; real ones add two."""

MAX_ADDED_TOKENS = 1 << 17
"""Beside the vocabulary; real ones have some 6000. Each takes 40 microseconds to load."""

_HINT = "use the tokenizer files of the model's authors, as they were published"


def check_tokenizer_files(folder: Path) -> None:
    """Look at the tokenizer files of a source. Raises VerificationError with all that is wrong."""
    faults: list[str] = []
    try:
        has_tokenizer = (folder / TOKENIZER_NAME).is_file()
        if (folder / CONFIG_NAME).is_file():
            faults += _outside(read_object(folder / CONFIG_NAME, CONFIG_NAME), has_tokenizer)
        if has_tokenizer:
            document = read_object(folder / TOKENIZER_NAME, TOKENIZER_NAME, LIMITS)
            faults += tokenizer_faults(document)
    except OSError as error:
        raise file_error(error, error.filename or folder, "cannot be read") from None
    if faults:
        raise VerificationError(
            "the tokenizer of the source is refused", facts=listed(faults), hint=_HINT
        )


def tokenizer_faults(document: dict[str, Json]) -> list[str]:
    """What is wrong with `tokenizer.json`. What its library refuses by itself is left to it."""
    faults = []
    added = document.get("added_tokens")
    if isinstance(added, list) and len(added) > MAX_ADDED_TOKENS:
        faults.append(f"`added_tokens` has {len(added)} tokens, more than {MAX_ADDED_TOKENS}")
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        steps = list(_steps(document.get(part)))
        if len(steps) > MAX_STEPS:
            faults.append(f"`{part}` has {len(steps)} steps, more than {MAX_STEPS}")
            continue
        growth = 1
        for step in steps:
            growth *= _growth(step)
            reason = _charsmap_fault(step) or _template_fault(step)
            faults += [f"`{part}`: {reason}"] if reason else []
        if growth > MAX_GROWTH:
            faults.append(f"`{part}` can make a text more than {MAX_GROWTH} times as long")
    return faults


def _outside(config: dict[str, Json], has_tokenizer: bool) -> Iterator[str]:
    """Files that `tokenizer_config.json` names elsewhere.

    Those of other keys than `fast_tokenizer_files` are leftovers of whoever saved the tokenizer,
    and not looked at where there is a `tokenizer.json`.
    """
    for key, value in config.items():
        is_read = key == "fast_tokenizer_files" or (key.endswith("_file") and not has_tokenizer)
        for name in value if isinstance(value, list) else [value]:
            if is_read and isinstance(name, str) and PurePosixPath(name).name != name:
                told = f"`{printable(key)}` of `{CONFIG_NAME}`"
                yield f"{told} names a file elsewhere, `{printable(name)}`"


def _steps(part: Json) -> Iterator[dict[str, Json]]:
    """The steps of a part, those of sequences one by one."""
    waiting = [part]
    while waiting:
        step = waiting.pop()
        if isinstance(step, dict):
            yield step
            for key in ("normalizers", "pretokenizers", "processors", "decoders"):
                inner = step.get(key)
                waiting += inner if isinstance(inner, list) else []


def _growth(step: dict[str, Json]) -> int:
    """How many times as long a step can make a text of one character."""
    if step.get("type") == "Prepend":
        return 1 + len(str(step.get("prepend", "")).encode())
    if step.get("type") != "Replace":
        return 1
    pattern, content = step.get("pattern"), len(str(step.get("content", "")).encode())
    found = pattern.get("String") if isinstance(pattern, dict) else None
    # A regular expression may match nothing, between any two characters; so does an empty text.
    return (
        max(1, -(-content // len(found.encode())))
        if isinstance(found, str) and found
        else (1 + content)
    )


def _charsmap_fault(step: dict[str, Json]) -> str | None:
    """Whether the table of a `Precompiled` normalizer is shorter than it says."""
    if step.get("type") != "Precompiled" or step.get("precompiled_charsmap") is None:
        return None
    try:
        table = base64.b64decode(str(step["precompiled_charsmap"]), validate=True)
    except (binascii.Error, ValueError):
        return "its `precompiled_charsmap` is not base 64"
    trie_bytes = int.from_bytes(table[:4], "little")
    if not 0 < trie_bytes <= len(table) - 4 or trie_bytes % 4:
        return "its `precompiled_charsmap` is damaged, or cut off"
    return None


def _template_fault(step: dict[str, Json]) -> str | None:
    """Whether a template of special tokens adds more than any does."""
    if step.get("type") != "TemplateProcessing":
        return None
    known = step.get("special_tokens")
    tokens = known if isinstance(known, dict) else {}
    total = 0
    for name in ("single", "pair"):
        pieces = step.get(name)
        for piece in pieces if isinstance(pieces, list) else ():
            special = piece.get("SpecialToken") if isinstance(piece, dict) else None
            if not isinstance(special, dict):
                continue
            token = tokens.get(str(special.get("id")))
            if not isinstance(token, dict):
                return f"its template has `{printable(str(special.get('id')))}`, which is no token"
            total += len(token["ids"]) if isinstance(token.get("ids"), list) else 1
    if total > MAX_TEMPLATE_TOKENS:
        return f"its templates add {total} tokens, more than {MAX_TEMPLATE_TOKENS}"
    return None
