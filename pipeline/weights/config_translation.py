"""A source's config.json becomes a target's, with a ledger of every key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import listed, printable
from pipeline.errors import RecipeError
from pipeline.weights import attention_windows, rope
from pipeline.weights.config_derivation import fill_in, work_out
from pipeline.weights.config_draft import Draft
from pipeline.weights.config_reading import read, unfold
from pipeline.weights.config_rules import (
    Computed,
    ConfigRule,
    Constant,
    Copy,
    Divides,
    Each,
    Given,
    Inert,
    LeftOut,
    Longest,
    Neutral,
    Require,
    Rope,
    Unfold,
    Window,
)
from pipeline.weights.model_class import ModelClass


@dataclass(frozen=True)
class Translation:
    """`config` is what is written; `facts` hold also what only weight rules read.

    `ledger` has an entry for every key of the source, and for every default that was taken.
    `window`: up to how many tokens every layer sees all of them; None: up to any number.
    `longest_tokens`: up to how many the target computes the model, windows aside; None: any number.
    """

    config: dict[str, Json]
    facts: dict[str, Json]
    ledger: dict[str, Json]
    window: int | None = None
    longest_tokens: int | None = None


def translate(
    rules: Sequence[ConfigRule],
    model_class: ModelClass,
    source: Mapping[str, Json],
    architecture: str,
    given: Mapping[str, Json],
    proven: frozenset[str] = frozenset(),
) -> Translation:
    """Translate a source's config.json; `given` are the keys that the plan decides, `proven` those
    whose effect is compared by execution.

    Raises RecipeError with every key that is unknown, missing, malformed, or has a value that
    changes the mathematics in a way that the target cannot express.
    """
    draft = Draft(source, {**model_class.defaults(), **given}, proven=proven)
    held = [rule for rule in rules if _holds(rule, architecture)]
    for rule in held:
        if isinstance(rule, Unfold):
            unfold(rule, draft)
    for rule in held:
        read(rule, draft)
    for rule in held:
        if isinstance(rule, Copy):
            work_out(rule, draft)
    written = {name.partition(".")[0] for rule in held for name in _written(rule)}
    fill_in(model_class, written, draft)
    for rule in held:
        if not isinstance(rule, Copy):
            work_out(rule, draft)
    _refuse_unknown(rules, draft, architecture)
    _refuse_absurd(draft)
    if draft.faults:
        raise _error(draft)
    left_out = {
        key
        for key, default in model_class.keys.items()
        if isinstance(default, LeftOut) and key not in draft.facts
    }
    keys = (*_FIRST_KEYS, *model_class.keys, *_LAST_KEYS)
    config = {key: draft.facts[key] for key in keys if key not in left_out}
    windows = attention_windows.windows(held, draft)
    window = attention_windows.shortest(windows)
    if window is not None and attention_windows.are_written(held, draft):
        key = attention_windows.ATTENTION_WINDOWS
        config[key] = draft.facts[key] = windows
    ledger = {key: draft.ledger[key] for key in sorted(draft.ledger)}
    longest = attention_windows.longest_tokens(held, draft)
    return Translation(config, draft.facts, ledger, window, longest)


_FIRST_KEYS = ("architecture", "dtype")
MAX_FAULT_CHARACTERS = 600
_AT_MOST = {"layers": 1000, "experts": 4096}
_LAST_KEYS = ("mapping", "quantization", "use_parallel_embedding", "embedding_sharding_dim")


def _holds(rule: ConfigRule, architecture: str) -> bool:
    """Whether a rule is one of this architecture's."""
    only = getattr(rule, "only", ())
    return not only or architecture in only


def _refuse_unknown(rules: Sequence[ConfigRule], draft: Draft, architecture: str) -> None:
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


def _refuse_absurd(draft: Draft) -> None:
    """Refuse numbers of parts that no model has: every part is looked for by its name."""
    experts = (draft.facts.get("moe") or {}).get("num_experts")
    for name, value in (("layers", draft.facts.get("num_hidden_layers")), ("experts", experts)):
        if isinstance(value, int) and value > _AT_MOST[name]:
            draft.faults.append(f"{value} {name}, expected at most {_AT_MOST[name]}")


def _named(rule: ConfigRule) -> tuple[str, ...]:
    match rule:
        case Copy():
            return rule.spellings
        case Inert():
            return rule.sources
        case Given():
            return rule.consumes
        case Neutral() | Window() | Longest() | Unfold() | Each():
            return (rule.source,)
        case Rope():
            return rope.keys_of(rule)
        case Constant() | Computed() | Divides() | Require():
            return ()


def _written(rule: ConfigRule) -> tuple[str, ...]:
    match rule:
        case Copy() | Computed():
            return (rule.target,) if rule.written else ()
        case Constant() | Each():
            return (rule.target,)
        case Rope():
            names = (rule.base, rule.scaling, rule.fraction)
            return tuple(name for name in names if name) if rule.written else ()
        case _:
            return ()


def _error(draft: Draft) -> RecipeError:
    hint = draft.hints[0] if draft.hints else None
    # A fault tells the value, which is whatever the source says.
    faults = [printable(fault, MAX_FAULT_CHARACTERS) for fault in listed(draft.faults)]
    if len(faults) == 1:
        return RecipeError(f"`config.json` of the source: {faults[0]}", hint=hint)
    return RecipeError(
        f"`config.json` of the source has {len(draft.faults)} keys that cannot be translated",
        facts=faults,
        hint=hint,
    )
