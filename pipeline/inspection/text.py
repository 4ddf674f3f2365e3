"""An inspection document as text: names and values, sections, and tables of equal rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from pipeline.artifact import Json

MAX_COLUMNS = 200
"""Of a table: about two lines of a terminal."""

MAX_LINES = 12
"""Of a plain list; a JSON document has all of it."""

OF_PACKAGES = frozenset({"tools", "made by", "built with"})
"""Sections whose names are those of packages, and stay as they are."""


def inspection_text(document: Mapping[str, Json]) -> str:
    """The document for people: single values first, then one section per nested value."""
    return "\n".join(_section(document, indent="")).rstrip()


def _section(document: Mapping[str, Json], indent: str, *, as_is: bool = False) -> Iterator[str]:
    single = [
        (name if as_is else _label(name), _inline(v))
        for name, v in document.items()
        if _is_single(v) and not (v == [] and f"num_{name}" in document)
    ]
    width = max((len(label) for label, _ in single), default=0)
    for label, text in single:
        yield f"{indent}{label.ljust(width)}  {text}".rstrip()
    for name, value in document.items():
        if not _is_single(value):
            if not indent:
                yield ""
            yield f"{indent}{_label(name)}"
            yield from _nested(value, indent + "  ", as_is=as_is or name in OF_PACKAGES)


def _nested(value: Json, indent: str, *, as_is: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from _section(value, indent, as_is=as_is)
    elif all(isinstance(row, Mapping) and row.keys() == value[0].keys() for row in value):
        yield from _table(value, indent)
    else:
        shown = value if len(value) <= MAX_LINES else value[: MAX_LINES - 1]
        for row in shown:
            yield f"{indent}{_inline(row)}"
        if len(shown) < len(value):
            yield f"{indent}and {len(value) - len(shown)} more"


def _table(rows: Sequence[Mapping[str, Json]], indent: str) -> Iterator[str]:
    """Columns aligned by spaces, numbers to the right; rows that are too wide as paragraphs."""
    names = list(rows[0])
    cells = [[_label(name) for name in names]]
    cells += [[_inline(row[name]) for name in names] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    if sum(widths) > MAX_COLUMNS:
        for wide in rows:
            yield f"{indent}{_inline(wide[names[0]])}"
            yield from _section({name: wide[name] for name in names[1:]}, indent + "  ")
        return
    numeric = [all(_is_number(row[name]) for row in rows) for name in names]
    for row in cells:
        aligned = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        yield (indent + "  ".join(aligned)).rstrip()


def _is_single(value: Json) -> bool:
    """Fits on the line of its name: no nested values, and lists of scalars that are short."""
    if isinstance(value, Mapping):
        return not value
    if isinstance(value, list):
        return all(not isinstance(item, Mapping | list) for item in value) and len(value) <= 6
    return True


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _inline(value: Json) -> str:
    if value is None or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        # A text of the model may hold line ends and control characters.
        return value if value.isprintable() else json.dumps(value, ensure_ascii=True)
    if isinstance(value, list) and value and all(_is_number(item) for item in value):
        return "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, list):
        return ", ".join(_inline(item) for item in value)
    return json.dumps(value, ensure_ascii=True)


def _label(name: str) -> str:
    """`size_bytes` is `bytes` to people, `num_tensors` is `tensors`."""
    return name.removeprefix("num_").removeprefix("size_").replace("_", " ")
