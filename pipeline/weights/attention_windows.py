"""Sliding windows of attention: which layers have one, and how `config.json` says so.

TensorRT-LLM's engines attend to all tokens, unless a run is told otherwise, and its checkpoints
have no key for windows. Ours is `attention_windows`, which `PretrainedConfig` keeps as an attribute
that nothing reads (1.x `models/modeling_utils.py`); the decoder graph honours it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.artifact import Json
from pipeline.formulas import holds
from pipeline.weights.config_draft import Draft
from pipeline.weights.config_rules import ConfigRule, Longest, Window

ATTENTION_WINDOWS = "attention_windows"
"""Key of config.json, only there where a layer has a window: a list with an entry for every layer.

An entry is the number of last tokens that a token sees, itself included, or null for all. That is
transformers' `sliding_window` (5.24 `masking_utils.py`, sliding_window_overlay: W tokens)."""


def read_limit(rule: Window | Longest, draft: Draft) -> None:
    """Check the number, where there is one, and say what becomes of it."""
    if isinstance(rule, Window) and not _is_there(rule, draft):
        draft.note((rule.source,), {"use": "inert", "because": f"only read if `{rule.when}`"})
        return
    value = draft.source.get(rule.source, rule.default)
    may_be_null = isinstance(rule, Longest) or rule.when is None
    if not (type(value) is int and value >= 1) and not (value is None and may_be_null):
        draft.faults.append(f"`{rule.source}` is `{value}`, expected an integer of 1 or more")
    written = isinstance(rule, Window) and rule.written
    use = {"use": "translated", "to": ATTENTION_WINDOWS} if written else {"use": _LIMITS}
    draft.ledger[rule.source] = {**use, "value": value}


_LIMITS = "limits the sequence length"


def windows(rules: Iterable[ConfigRule], draft: Draft) -> list[int | None]:
    """The window of every layer, None where it sees all tokens; of a draft without faults."""
    found: list[int | None] = [None] * draft.facts["num_hidden_layers"]
    for rule in _held(rules, draft):
        size = draft.source.get(rule.source, rule.default)
        for layer in range(len(found)):
            if holds(rule.layers, {**draft.facts, "layer": layer}):
                found[layer] = size
    return found


def are_written(rules: Iterable[ConfigRule], draft: Draft) -> bool:
    """Whether config.json says which windows there are by our own key."""
    return any(rule.written for rule in _held(rules, draft))


def shortest(sizes: Sequence[int | None]) -> int | None:
    """The smallest window, up to which all layers see all tokens; None where none has one."""
    return min((size for size in sizes if size is not None), default=None)


def longest_tokens(rules: Iterable[ConfigRule], draft: Draft) -> int | None:
    """Up to how many tokens the target computes the model, whatever executes it; None: any."""
    given: list[Json] = [
        draft.source.get(rule.source, rule.default) for rule in rules if isinstance(rule, Longest)
    ]
    return shortest(given)


def _held(rules: Iterable[ConfigRule], draft: Draft) -> list[Window]:
    return [rule for rule in rules if isinstance(rule, Window) and _is_there(rule, draft)]


def _is_there(rule: Window, draft: Draft) -> bool:
    return holds(rule.when, draft.facts)
