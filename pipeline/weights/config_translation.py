"""Reads config rules: a source's config.json becomes a target's, and a ledger of every key."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import listed, printable
from pipeline.errors import RecipeError
from pipeline.weights import rope
from pipeline.weights.config_rules import (
    REQUIRED,
    ConfigRule,
    Constant,
    Copy,
    Divides,
    Formula,
    Given,
    Inert,
    Kind,
    Neutral,
    Rope,
    Window,
)
from pipeline.weights.sizes import evaluate

_EXPECTED: Mapping[Kind, str] = {
    "count": "an integer of 1 or more",
    "number": "a number above 0",
    "flag": "true or false",
    "text": "a text",
}


@dataclass(frozen=True)
class Translation:
    """`config` is what is written; `facts` hold also what only weight rules read.

    `ledger` has an entry for every key of the source, and for every default that was taken.
    """

    config: dict[str, Json]
    facts: dict[str, Json]
    ledger: dict[str, Json]


@dataclass
class _Draft:
    """A translation in the making."""

    source: Mapping[str, Json]
    facts: dict[str, Json] = field(default_factory=dict)
    ledger: dict[str, Json] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


def translate(
    rules: Sequence[ConfigRule],
    source: Mapping[str, Json],
    architecture: str,
    given: Mapping[str, Json],
) -> Translation:
    """Translate a source's config.json; `given` are the keys that the plan decides.

    Raises RecipeError with every key that is unknown, missing, malformed, or has a value that
    changes the mathematics in a way that the target cannot express.
    """
    draft = _Draft(source)
    held = [rule for rule in rules if _holds(rule, architecture)]
    for rule in held:
        _read(rule, draft, given)
    for rule in held:
        if isinstance(rule, Copy) and isinstance(rule.default, Formula):
            _work_out(rule, rule.default, draft)
        elif isinstance(rule, Divides):
            _check_division(rule, draft)
    _refuse_unknown(rules, draft, architecture)
    if draft.faults:
        raise _error(draft)
    written = [name for rule in held for name in _written(rule)]
    ledger = {key: draft.ledger[key] for key in sorted(draft.ledger)}
    return Translation({name: draft.facts[name] for name in written}, draft.facts, ledger)


def attention_window(
    rules: Sequence[ConfigRule], source: Mapping[str, Json], architecture: str
) -> int | None:
    """How many last tokens attention sees; None where it sees all."""
    for rule in rules:
        if isinstance(rule, Window) and _holds(rule, architecture):
            value = source.get(rule.source, rule.default)
            return value if type(value) is int else None
    return None


def _holds(rule: ConfigRule, architecture: str) -> bool:
    """Whether a rule is one of this architecture's."""
    only = getattr(rule, "only", ())
    return not only or architecture in only


def _read(rule: ConfigRule, draft: _Draft, given: Mapping[str, Json]) -> None:
    match rule:
        case Copy():
            _copy(rule, draft)
        case Constant():
            draft.facts[rule.target] = copy.deepcopy(rule.value)
        case Given():
            draft.facts[rule.target] = given[rule.target]
            _note(draft, rule.consumes, {"use": "translated", "to": rule.target})
        case Rope():
            _rope(rule, draft)
        case Window():
            _window(rule, draft)
        case Neutral():
            _neutral(rule, draft)
        case Inert():
            _note(draft, rule.sources, {"use": "inert", "because": rule.because})
        case Divides():
            pass  # checked when all sizes are known


def _copy(rule: Copy, draft: _Draft) -> None:
    found = {key: draft.source[key] for key in rule.spellings if draft.source.get(key) is not None}
    _note(draft, rule.spellings, {"use": "translated", "to": rule.target})
    if len({repr(value) for value in found.values()}) > 1:
        draft.faults.append(f"{' and '.join(f'`{key}`' for key in found)} disagree")
    if found:
        key, given = next(iter(found.items()))
        value = rule.aliases.get(given, given) if isinstance(given, str) else given
        fault = _value_fault(rule, value)
        if fault:
            draft.faults.append(f"`{key}` is `{printable(str(value))}`, expected {fault}")
        draft.facts[rule.target] = value
        return
    if rule.default is REQUIRED:
        draft.faults.append(f"`{rule.spellings[0]}` is missing")
    elif not isinstance(rule.default, Formula):
        draft.facts[rule.target] = rule.default
        draft.ledger.setdefault(rule.spellings[0], {"use": "default", "value": rule.default})


def _value_fault(rule: Copy, value: Json) -> str | None:
    if rule.allowed and value not in rule.allowed:
        return "one of " + ", ".join(f"`{item}`" for item in rule.allowed)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "count": type(value) is int and value >= 1,
        "number": is_number and math.isfinite(value) and value > 0,
        "flag": isinstance(value, bool),
        "text": isinstance(value, str),
    }
    return None if fits[rule.kind] else _EXPECTED[rule.kind]


def _work_out(rule: Copy, formula: Formula, draft: _Draft) -> None:
    """A default that depends on other keys; skipped where one of these is already at fault."""
    if rule.target in draft.facts or draft.faults:
        return
    try:
        value = evaluate(formula.text, draft.facts)
    except ValueError as error:
        draft.faults.append(f"`{rule.spellings[0]}` is missing, and its default {error}")
        return
    draft.facts[rule.target] = value
    draft.ledger.setdefault(rule.spellings[0], {"use": "default", "value": value})


def _check_division(rule: Divides, draft: _Draft) -> None:
    if draft.faults:
        return
    divisor, size = evaluate(rule.divisor, draft.facts), evaluate(rule.size, draft.facts)
    if size % divisor:
        draft.faults.append(f"`{rule.size}` {size} is not a multiple of `{rule.divisor}` {divisor}")


def _rope(rule: Rope, draft: _Draft) -> None:
    settings = rope.read_rope(rule, draft.source)
    draft.facts[rule.base] = settings.base
    draft.facts[rule.scaling] = settings.scaling
    draft.faults += settings.faults
    for key in rope.KEYS:
        target = rule.base if key == "rope_theta" else f"{rule.base}, {rule.scaling}"
        _note(draft, (key,), {"use": "translated", "to": target})
    if not any(draft.source.get(key) for key in rope.KEYS):
        draft.ledger.setdefault("rope_theta", {"use": "default", "value": rule.default_base})


def _window(rule: Window, draft: _Draft) -> None:
    value = draft.source.get(rule.source, rule.default)
    if value is not None and (type(value) is not int or value < 1):
        draft.faults.append(f"`{rule.source}` is `{value}`, expected an integer of 1 or more")
    entry = {"use": "limits the sequence length", "value": value}
    draft.ledger[rule.source] = entry


def _neutral(rule: Neutral, draft: _Draft) -> None:
    _note(draft, (rule.source,), {"use": "neutral", "because": rule.because})
    if rule.source not in draft.source:
        return
    value = draft.source[rule.source]
    # `1 == True` in Python: a flag must not pass for a count.
    if not any(value == item and type(value) is type(item) for item in rule.values):
        shown = ", ".join(f"`{item}`" for item in rule.values)
        draft.faults.append(
            f"`{rule.source}` is `{printable(str(value))}`, supported: {shown} ({rule.because})"
        )
        draft.hints += [rule.hint] if rule.hint else []


def _note(draft: _Draft, keys: Sequence[str], entry: Mapping[str, Json]) -> None:
    for key in keys:
        if key in draft.source:
            draft.ledger.setdefault(key, dict(entry))


def _refuse_unknown(rules: Sequence[ConfigRule], draft: _Draft, architecture: str) -> None:
    known = sorted({key for rule in rules for key in _named(rule)})
    for key in sorted(draft.source.keys() - draft.ledger.keys()):
        near = difflib.get_close_matches(key, known, 1)
        guess = f"; did you mean `{near[0]}`?" if near else ""
        if key in known:
            guess = f" of `{architecture}`"
        draft.faults.append(f"unknown key `{printable(key)}`{guess}")
        draft.hints.append(
            "a key that nobody knows may change the mathematics; where it changes nothing, "
            "add it to the inert keys of the family"
        )


def _named(rule: ConfigRule) -> tuple[str, ...]:
    match rule:
        case Copy():
            return rule.spellings
        case Inert():
            return rule.sources
        case Given():
            return rule.consumes
        case Neutral() | Window():
            return (rule.source,)
        case Rope():
            return rope.KEYS
        case Constant() | Divides():
            return ()


def _written(rule: ConfigRule) -> tuple[str, ...]:
    match rule:
        case Copy():
            return (rule.target,) if rule.written else ()
        case Constant() | Given():
            return (rule.target,)
        case Rope():
            return (rule.base, rule.scaling)
        case _:
            return ()


def _error(draft: _Draft) -> RecipeError:
    hint = draft.hints[0] if draft.hints else None
    if len(draft.faults) == 1:
        return RecipeError(f"`config.json` of the source: {draft.faults[0]}", hint=hint)
    return RecipeError(
        f"`config.json` of the source has {len(draft.faults)} keys that cannot be translated",
        facts=listed(draft.faults),
        hint=hint,
    )
