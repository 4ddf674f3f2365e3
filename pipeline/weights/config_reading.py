"""Reads one config rule: what a key of the source says, and whether it may say so."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import printable
from pipeline.weights import rope
from pipeline.weights.attention_windows import read_limit
from pipeline.weights.config_draft import Draft
from pipeline.weights.config_rules import (
    MAX_COUNT,
    MAX_NUMBER,
    REQUIRED,
    Computed,
    ConfigRule,
    Constant,
    Copy,
    Divides,
    Each,
    Formula,
    Given,
    Inert,
    Kind,
    Longest,
    Neutral,
    Require,
    Rope,
    Unfold,
    Window,
)

_EXPECTED: Mapping[Kind, str] = {
    "count": "an integer of 1 or more, of 31 bits",
    "natural": "an integer of 0 or more, of 31 bits",
    "number": "a number above 0",
    "real": "a number",
    "flag": "true or false",
    "text": "a text",
    "list": "a list",
}


def unfold(rule: Unfold, draft: Draft) -> None:
    """Put the keys of an object beside the others."""
    draft.note((rule.source,), {"use": "read key by key"})
    value = draft.source.get(rule.source)
    if isinstance(value, dict):
        inside = {f"{rule.source}.{key}": item for key, item in value.items()}
        draft.source = {**draft.source, **inside}
    elif value is not None:
        draft.faults.append(f"`{rule.source}` is not an object")


def read(rule: ConfigRule, draft: Draft) -> None:
    """Take what a rule says of single keys; rules about several are for `config_derivation`."""
    match rule:
        case Copy():
            _copy(rule, draft)
        case Constant():
            draft.set(rule.target, copy.deepcopy(rule.value))
        case Given():
            draft.note(rule.consumes, {"use": "decided by the plan"})
        case Rope():
            _rope(rule, draft)
        case Window() | Longest():
            read_limit(rule, draft)
        case Neutral():
            _neutral(rule, draft)
        case Inert():
            draft.note(rule.sources, {"use": "inert", "because": rule.because})
        case Each():
            draft.note((rule.source,), {"use": "translated", "to": rule.target})
        case Computed() | Divides() | Require() | Unfold():
            pass  # when all facts that are copied are known


def _copy(rule: Copy, draft: Draft) -> None:
    found = {key: draft.source[key] for key in rule.spellings if draft.source.get(key) is not None}
    draft.note(rule.spellings, {"use": "translated", "to": rule.target})
    if len({repr(value) for value in found.values()}) > 1:
        draft.faults.append(f"{' and '.join(f'`{key}`' for key in found)} disagree")
    if found:
        key, given = next(iter(found.items()))
        value = rule.aliases.get(given, given) if isinstance(given, str) else given
        fault = _value_fault(rule, value)
        if fault:
            draft.faults.append(f"`{key}` is `{printable(str(value))}`, expected {fault}")
        draft.set(rule.target, value)
        return
    if rule.default is REQUIRED:
        draft.faults.append(f"`{rule.spellings[0]}` is missing")
    elif not isinstance(rule.default, Formula):
        draft.set(rule.target, copy.deepcopy(rule.default))
        draft.ledger.setdefault(rule.spellings[0], {"use": "default", "value": rule.default})


def _value_fault(rule: Copy, value: Json) -> str | None:
    if rule.allowed and value not in rule.allowed:
        return "one of " + ", ".join(f"`{item}`" for item in rule.allowed)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_number = is_number and abs(value) <= MAX_NUMBER
    fits = {
        "count": type(value) is int and 1 <= value <= MAX_COUNT,
        "natural": type(value) is int and 0 <= value <= MAX_COUNT,
        "number": is_number and value > 0,
        "real": is_number,
        "flag": isinstance(value, bool),
        "text": isinstance(value, str),
        "list": isinstance(value, list),
    }
    return None if fits[rule.kind] else _EXPECTED[rule.kind]


def _rope(rule: Rope, draft: Draft) -> None:
    settings = rope.read_rope(rule, draft.source)
    draft.facts[rule.base] = settings.base
    if rule.scaling is not None:
        draft.facts[rule.scaling] = settings.scaling
    if rule.fraction is not None:
        draft.facts[rule.fraction] = settings.fraction
    draft.faults += settings.faults
    targets = [name for name in (rule.base, rule.scaling, rule.fraction) if name]
    for key in rope.keys_of(rule):
        target = rule.base if key in rule.base_keys else ", ".join(targets)
        draft.note((key,), {"use": "translated", "to": target})
    if not any(draft.source.get(key) for key in rope.keys_of(rule)):
        draft.ledger.setdefault(rule.base_keys[0], {"use": "default", "value": rule.default_base})


def _neutral(rule: Neutral, draft: Draft) -> None:
    # A family may understand a key that the general rules, which come after its own, refuse.
    if rule.source not in draft.source or (rule.fallback and rule.source in draft.ledger):
        return
    if rule.source in draft.proven:
        draft.note((rule.source,), {"use": "compared", "because": "its code is the reference"})
        return
    draft.note((rule.source,), {"use": "neutral", "because": rule.because})
    value = draft.source[rule.source]
    # `1 == True` in Python: a flag must not pass for a count.
    if not any(value == item and type(value) is type(item) for item in rule.values):
        shown = ", ".join(f"`{item}`" for item in rule.values)
        draft.faults.append(
            f"`{rule.source}` is `{printable(str(value))}`, supported: {shown} ({rule.because})"
        )
        draft.hints += [rule.hint] if rule.hint else []
