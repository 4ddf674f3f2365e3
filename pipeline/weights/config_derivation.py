"""Works out what follows from several keys: defaults, derived values, conditions."""

from __future__ import annotations

from pipeline.formulas import evaluate, evaluate_size, holds
from pipeline.weights.block_configs import read_each
from pipeline.weights.config_draft import Draft
from pipeline.weights.config_rules import (
    REQUIRED,
    Computed,
    ConfigRule,
    Copy,
    Divides,
    Each,
    Formula,
    Require,
)
from pipeline.weights.model_class import ModelClass


def fill_in(model_class: ModelClass, written: set[str], draft: Draft) -> None:
    """Defaults of the class that depend on what was copied."""
    unknown = written - model_class.keys.keys()
    assert not unknown, f"{model_class.name} has no key {sorted(unknown)}"
    for key, default in model_class.keys.items():
        assert default is not REQUIRED or key in written, f"no rule for {key}"
        if isinstance(default, Formula) and key not in written and not draft.faults:
            try:
                draft.facts[key] = evaluate(default.text, draft.facts)
            except ValueError as error:
                draft.faults.append(f"`{key}` {error}")


def work_out(rule: ConfigRule, draft: Draft) -> None:
    """What depends on other keys; skipped where one of these is already at fault."""
    if draft.faults:
        return
    try:
        match rule:
            case Copy(default=Formula(text=text)) if not _is_set(rule, draft):
                value = evaluate(text, draft.facts)
                draft.set(rule.target, value)
                draft.ledger.setdefault(rule.spellings[0], {"use": "default", "value": value})
            case Computed() if holds(rule.when, draft.facts):
                draft.set(rule.target, evaluate(rule.formula, draft.facts))
            case Each() if draft.source.get(rule.source) is not None:
                _each(rule, draft)
            case Divides():
                _check_division(rule, draft)
            case Require() if not holds(rule.condition, draft.facts):
                draft.faults.append(rule.because)
                draft.hints += [rule.hint] if rule.hint else []
    except ValueError as error:
        assert isinstance(rule, Copy | Computed), rule
        name = rule.spellings[0] if isinstance(rule, Copy) else rule.target
        draft.faults.append(f"`{name}` is missing, and its default {error}")


def _each(rule: Each, draft: Draft) -> None:
    """A list by another; of several rules for one target, one may find its source."""
    if draft.facts.get(rule.target) is not None:
        draft.faults.append(f"`{rule.source}` says again what another key says of every layer")
        return
    made, faults = read_each(rule, draft.source[rule.source], draft.facts)
    draft.faults += faults
    draft.set(rule.target, made)


def _is_set(rule: Copy, draft: Draft) -> bool:
    return any(draft.source.get(key) is not None for key in rule.spellings)


def _check_division(rule: Divides, draft: Draft) -> None:
    divisor = evaluate_size(rule.divisor, draft.facts)
    size = evaluate_size(rule.size, draft.facts)
    if size % divisor:
        draft.faults.append(f"`{rule.size}` {size} is not a multiple of `{rule.divisor}` {divisor}")
