"""A migrated recipe as YAML with comments, in the form of `recipes init`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.artifact import Json
from pipeline.recipe.json_schema import FILE_NAME
from pipeline.recipe.plain_scalars import quote_if_needed
from pipeline.recipe.sections import sections

MAX_COMMENT = 100
_SECTIONS = ("source", "checkpoint", "engine", "smoke")
_FIRST = ("backend", "max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens")
_LAST = ("attention", "targets")

Lines = list[str]
Left = Sequence[tuple[str, str]]
"""Lines that stay comments: their section, and the text."""


def render(
    origin: str,
    name: str,
    values: Mapping[str, Json],
    notes: Mapping[str, str],
    left: Left,
    variants: Mapping[str, tuple[Mapping[str, Json], Left]],
    open_flags: Sequence[str],
) -> str:
    """The text. `values`, `notes`: by dotted key; `left`: lines that stay comments, by section;
    `open_flags`: what the recipe does not say yet."""
    lines = [
        f"# yaml-language-server: $schema={FILE_NAME}",
        f"# Migrated from {one_line(origin)} by `trtllm-pack migrate`. `trtllm-pack plan` on this",
        "# file shows what it leads to, every default included.",
    ]
    if open_flags:
        lines += ["#", "# What was asked for and is not in this recipe:"]
        lines += [f"#   {one_line(flag)}" for flag in open_flags]
    lines += ["", f"name: {quote_if_needed(name)}"]
    for section in _SECTIONS:
        lines += _section(section, values, notes, left)
    if variants:
        lines += ["", "# The other engines, chosen by `--variant NAME`:", "variants:"]
        for variant, (changes, variant_left) in variants.items():
            inside = []
            for section in _SECTIONS:
                inside += _section(section, changes, {}, variant_left)[1:]
            lines.append(f"  {quote_if_needed(variant)}:" + ("" if inside else " {}"))
            lines += ["    " + line for line in inside]
    return "\n".join(lines) + "\n"


def _section(
    section: str,
    values: Mapping[str, Json],
    notes: Mapping[str, str],
    left: Left,
) -> Lines:
    own: dict[str, Json] = {}
    comment = dict(notes)
    for whole, value in values.items():
        of, _, key = whole.partition(".")
        outer, _, inner = key.partition(".")
        if of == section and inner:
            own.setdefault(outer, {})[inner] = value
            comment[f"{section}.{outer}"] = notes.get(whole, "")
        elif of == section:
            own[key] = value
    comments = [f"  # {one_line(text)}" for of, text in left if of == section]
    if not own and not comments:
        return []
    lines = ["", f"{section}:" if own else f"{section}: {{}}"]
    for key in _ordered(section, own):
        lines += _entry(key, own[key], comment.get(f"{section}.{key}", ""))
    return lines + comments


def _entry(key: str, value: Json, note: str) -> Lines:
    comment = f" # {one_line(note)}" if note else ""
    if key == "prompts" and isinstance(value, list):
        return ["  prompts:", *(f"    - text: {scalar(text)}" for text in value)]
    return [f"  {key}: {scalar(value)}{comment}"]


def _ordered(section: str, own: Mapping[str, Json]) -> list[str]:
    """Keys as a reader looks for them: what matters first."""
    if section != "engine":
        known = list(sections()[(section,)].model_fields)
        return sorted(own, key=lambda key: known.index(key) if key in known else len(known))
    limits = [key for key in own if key.startswith("max_") and key not in _FIRST]
    others = [key for key in own if key not in (*_FIRST, *limits, *_LAST)]
    return [key for key in (*_FIRST, *sorted(limits), *sorted(others), *_LAST) if key in own]


def scalar(value: Json) -> str:
    """A value in one line of YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(scalar(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {scalar(item)}" for key, item in value.items()) + "}"
    return quote_if_needed(value) if isinstance(value, str) else str(value)


def one_line(text: str) -> str:
    """A text that fits behind a `#`: one line, printable, not too long."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= MAX_COMMENT else f"{flat[: MAX_COMMENT - 3]}..."
