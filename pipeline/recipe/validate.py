"""Validate merged layers, and turn what pydantic finds into mistakes with places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from pydantic import ValidationError

from pipeline.recipe.engine_rules import key_path, refused_options
from pipeline.recipe.layers import Layer, find_written, mark_key, mark_latest, merge_layers
from pipeline.recipe.mistakes import MAX_COUNTED, Mistake
from pipeline.recipe.nodes import BrokenNode, KeyPath, Plain, dotted, find_node, is_broken
from pipeline.recipe.rules import BROKEN_RULE
from pipeline.recipe.schema import Recipe
from pipeline.recipe.unknown_keys import unknown_key
from pipeline.recipe.wrong_values import wrong_value
from pipeline.trtllm.rules import Finding

BACKEND: KeyPath = ("engine", "backend")

Fault = Mapping[str, Any]
"""One entry of `ValidationError.errors()`."""


def validate_layers(layers: Sequence[Layer]) -> tuple[Recipe | None, list[Mistake]]:
    """The recipe that the layers make, or every mistake in it.

    Pydantic checks a rule between keys only where each of them is right by itself. So that one
    wrong key hides no other mistake, the document is checked again without the wrong ones, and
    rules that are broken there, by keys that were written, are reported too. TensorRT-LLM's rules
    between options of `engine` are asked last, of what is right by then.
    """
    document = merge_layers(layers)
    faults = _faults(document)
    if not faults:
        recipe = Recipe.model_validate(document)
        mistakes = _option_mistakes(document, set(), layers)
        return (None if mistakes else recipe), mistakes
    removed = {path for fault in faults for path in _paths(fault)}
    hidden = [
        fault
        for fault in _faults(_without(document, removed))
        if fault["type"] == BROKEN_RULE and fault["ctx"]["keys"] and not removed & {*_paths(fault)}
    ]
    found = [_mistake(fault, layers) for fault in (*faults, *hidden)]
    removed |= {path for fault in hidden for path in _paths(fault)}
    found += _option_mistakes(_without(document, removed), removed, layers)
    return None, [mistake for mistake in found if mistake is not None]


def _option_mistakes(
    document: Mapping[str, Plain], removed: AbstractSet[KeyPath], layers: Sequence[Layer]
) -> list[Mistake]:
    """Options that TensorRT-LLM does not combine; a rule about a wrong key is passed by.

    A package without an engine is no concern of theirs.
    """
    engine, package = document.get("engine"), document.get("package")
    if isinstance(package, dict) and package.get("kind") == "pytorch":
        return []
    if BACKEND in removed and _names_another_backend(layers):
        return []
    try:
        findings = refused_options(engine if isinstance(engine, dict) else {})
    except ValidationError:
        return []  # rules between other keys are broken still, which is reported
    return [
        _broken_option(finding, layers)
        for finding in findings
        if not removed & {key_path(key) for key in finding.rule.keys}
    ]


def _names_another_backend(layers: Sequence[Layer]) -> bool:
    """Whether a backend is written that is not TensorRT-LLM, if only by a wrong name."""
    found = find_written(layers, BACKEND)
    return found is not None and getattr(found[1], "value", None) != "trtllm"


def _broken_option(finding: Finding, layers: Sequence[Layer]) -> Mistake:
    """Shown as a rule of the recipe itself is, with the source of TensorRT-LLM's."""
    paths = [key_path(key) for key in finding.rule.keys]
    mark = mark_latest(layers, paths) or mark_key(layers, ("engine",))
    message = f"{finding.message}{_note(paths, finding.message, layers)}"
    return Mistake(mark, message, f"{finding.hint} ({finding.told_source})")


def _faults(document: Mapping[str, Plain]) -> list[Fault]:
    try:
        Recipe.model_validate(document)
    except ValidationError as error:
        return list(error.errors(include_url=False)[:MAX_COUNTED])
    return []


def _paths(fault: Fault) -> list[KeyPath]:
    """The keys that a fault is about."""
    section: KeyPath = fault["loc"]
    keys = fault["ctx"]["keys"] if fault["type"] == BROKEN_RULE else ()
    return [(*section, *key) for key in keys] or [section]


def _without(document: Mapping[str, Plain], paths: Iterable[KeyPath]) -> dict[str, Plain]:
    """The document less the given keys; a list that holds one of them wholly loses it."""

    def copy(value: Plain, path: KeyPath) -> Plain:
        if isinstance(value, dict):
            items = {key: copy(each, (*path, key)) for key, each in value.items()}
            return {key: each for key, each in items.items() if (*path, key) not in gone}
        if isinstance(value, list):
            return [copy(each, (*path, index)) for index, each in enumerate(value)]
        return value

    gone = set(paths)
    gone |= {path[:-1] for path in gone if path and isinstance(path[-1], int)}
    pruned = copy(dict(document), ())
    assert isinstance(pruned, dict)
    return pruned


def _mistake(fault: Fault, layers: Sequence[Layer]) -> Mistake | None:
    """The mistake that a fault stands for; None where another mistake is its cause."""
    path: KeyPath = fault["loc"]
    if any(_is_excused(each, layers) for each in _paths(fault)):
        return None
    match fault["type"]:
        case "missing":
            return _missing_key(path, layers)
        case "extra_forbidden":
            return unknown_key(path, layers)
        case "too_short" if fault["input"]:
            return None  # its items are wrong, which is reported, and pydantic left them out
        case kind if kind == BROKEN_RULE and fault["ctx"]["keys"]:
            return _broken_rule(fault, layers)
        case _:
            return wrong_value(fault, layers)


def _is_excused(path: KeyPath, layers: Sequence[Layer]) -> bool:
    """Whether something at this path could not be read, so that it only seems to be missing."""
    nodes = [find_node(layer.node, path) for layer in layers]
    return any(isinstance(node, BrokenNode) or (node and is_broken(node)) for node in nodes)


def _missing_key(path: KeyPath, layers: Sequence[Layer]) -> Mistake:
    section = f"`{dotted(path[:-1])}`" if len(path) > 1 else "the recipe"
    examples = {
        "name": "add `name: NAME`, the name of the release",
        "source": "add `source: {repo: owner/name}` or `source: {path: FOLDER}`",
    }
    hint = examples.get(dotted(path), f"add `{path[-1]}: ...`")
    return Mistake(mark_key(layers, path[:-1]), f"{section} has no `{path[-1]}`", hint)


def _broken_rule(fault: Fault, layers: Sequence[Layer]) -> Mistake:
    """Shown at the key that was written last: the others were right before it."""
    message: str = fault["ctx"]["message"]
    mark = mark_latest(layers, _paths(fault)) or mark_key(layers, fault["loc"])
    note = _note(_paths(fault), message, layers)
    return Mistake(mark, message + note, fault["ctx"]["hint"])


def _note(paths: Sequence[KeyPath], message: str, layers: Sequence[Layer]) -> str:
    """Which key that a message names has its default, so that nobody looks for it in vain."""
    unwritten = [dotted(path) for path in paths if find_written(layers, path) is None]
    defaults = [f"`{name}`" for name in unwritten if f"`{name}`" in message]
    return f" ({defaults[0]} is not written: this is its default)" if defaults else ""
