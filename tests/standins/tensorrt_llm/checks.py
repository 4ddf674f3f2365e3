"""Arguments against the JSON of facts: names, types, values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.trtllm.facts import facts

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "int": int,
    "bool": bool,
    "str": str,
    "float": (float, int),
    "dict": dict,
    "path": (str, Path),
}


def check(section: str, what: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments, defaults included. Raises ValueError as the real classes do, and earlier."""
    known = facts()[section]
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"{what} got invalid argument: {name}")
        fact = known[name]
        if not _fits(value, fact["type"]):
            raise ValueError(
                f"1 validation error for {what}: {name}={value!r} is no {fact['type']}"
            )
        if "values" in fact and value not in (*fact["values"], fact.get("default")):
            raise ValueError(f"1 validation error for {what}: {name}={value!r}")
    absent = [name for name, fact in known.items() if fact.get("required") and name not in given]
    if absent:
        raise ValueError(f"1 validation error for {what}: {absent[0]} is required")
    return {name: given.get(name, fact.get("default")) for name, fact in known.items()}


def _fits(value: Any, spelt: str) -> bool:
    """Whether a value is of a type as the facts spell it, e.g. `list[int]|null`."""
    return any(_is(value, kind) for kind in spelt.split("|"))


def _is(value: Any, kind: str) -> bool:
    if kind == "null":
        return value is None
    if kind.startswith("list["):
        inner = kind.removeprefix("list[").removesuffix("]")
        return isinstance(value, list) and all(_is(item, inner) for item in value)
    if kind in _TYPES:
        return isinstance(value, _TYPES[kind]) and isinstance(value, bool) <= (kind == "bool")
    return type(value).__name__ == kind.rpartition(".")[2]
