"""Lists of the source that say something of every layer, as lists of the target.

The keys of their items are as strict as those of the config itself: each is read, or has a value
that changes nothing, or is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import printable
from pipeline.formulas import evaluate, evaluate_size
from pipeline.weights.config_rules import MAX_COUNT, MAX_NUMBER, Each, Kind

_FITS: Mapping[Kind, type | tuple[type, ...]] = {
    "count": int,
    "number": (int, float),
    "flag": bool,
}


def read_each(rule: Each, items: Json, facts: Mapping[str, Json]) -> tuple[list[Json], list[str]]:
    """The target's list by a rule, and the faults of the source's."""
    if not isinstance(items, list):
        return [], [f"`{rule.source}` is not a list"]
    length = evaluate_size(rule.length, facts)
    if len(items) != length:
        return [], [f"`{rule.source}` has {len(items)} items, expected {length} ({rule.length})"]
    made: list[Json] = []
    faults: list[str] = []
    for place, item in enumerate(items):
        told = f"`{rule.source}[{place}]`"
        wrong = [f"{told}: {fault}" for fault in _faults(rule, item)]
        faults += wrong
        if wrong:
            continue
        try:
            made.append(_make(rule, {**facts, "item": _complete(rule, item)}))
        except (ValueError, TypeError):
            faults.append(f"{told} does not say all that its layer needs, or nothing that fits")
    return made, faults


def _faults(rule: Each, item: Json) -> Iterator[str]:
    """What is wrong with an item: keys that nobody knows, values of a wrong kind."""
    for key, value in _flat(item):
        shown = f"`{printable(key)}` is `{printable(str(value))}`" if key else f"`{value}`"
        if key in rule.reads:
            if value is not None and not _is(rule.reads[key], value):
                yield f"{shown}, expected a {rule.reads[key]}"
        elif key not in rule.neutral:
            yield f"unknown key `{printable(key)}`" if key else f"{shown}, expected an object"
        elif not any(value == known and type(value) is type(known) for known in rule.neutral[key]):
            supported = ", ".join(f"`{known}`" for known in rule.neutral[key])
            yield f"{shown}, supported: {supported}"


def _flat(item: Json, prefix: str = "") -> Iterator[tuple[str, Json]]:
    """The values of an item by their dotted keys; an item that is no object has the key ``."""
    if not isinstance(item, dict):
        yield prefix, item
        return
    for key, value in item.items():
        yield from _flat(value, f"{prefix}.{key}" if prefix else key)


def _is(kind: Kind, value: Json) -> bool:
    is_flag = isinstance(value, bool)
    fits = isinstance(value, _FITS[kind]) and is_flag == (kind == "flag")
    most = MAX_COUNT if kind == "count" else MAX_NUMBER
    return fits and (is_flag or 0 < value <= most)


def _complete(rule: Each, item: Json) -> Json:
    """The item with all keys that formulas read: false for a flag that is absent, else None."""
    if not isinstance(item, dict):
        return item
    given = dict(_flat(item))
    whole: dict[str, Json] = {}
    for key, kind in rule.reads.items():
        _put(whole, key, given.get(key, False if kind == "flag" else None))
    return whole


def _make(rule: Each, facts: Mapping[str, Json]) -> Json:
    made: dict[str, Json] = {}
    for key, formula in rule.values.items():
        _put(made, key, evaluate(formula, facts))
    return made


def _put(whole: dict[str, Json], key: str, value: Json) -> None:
    first, dot, rest = key.partition(".")
    if dot:
        _put(whole.setdefault(first, {}), rest, value)
    else:
        whole[first] = value
