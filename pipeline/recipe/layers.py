"""Layers: the partial recipes that one recipe is merged from, the weakest first.

Parents, then the file, then the parents' and the file's variant, then each `--set`. Mappings merge
key by key; lists and single values replace. A `source` that names another repo or another path
replaces the whole section below it: a revision belongs to the repo that it was written for. So do
options of TensorRT-LLM to its backend: a layer that names another one leaves them behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.recipe.mistakes import Mark
from pipeline.recipe.nodes import (
    KeyPath,
    MapNode,
    Node,
    Plain,
    ScalarNode,
    find_key_mark,
    find_node,
    plain,
)
from pipeline.recipe.schema import TRTLLM_KEYS


@dataclass(frozen=True, slots=True)
class Layer:
    """A partial recipe without `extends` and `variants`; `base_dir` is for its `source.path`."""

    node: MapNode
    base_dir: Path
    kind: Literal["file", "variant", "set"]


def merge_layers(layers: Sequence[Layer]) -> dict[str, Plain]:
    """The plain recipe document that the layers make together."""
    document: dict[str, Plain] = {}
    for layer in layers:
        over = plain(layer.node)
        assert isinstance(over, dict)
        if _names_another_source(document.get("source"), over.get("source")):
            document = {**document, "source": {}}
        elif _names_another_hub(document.get("source"), over.get("source")):
            document = {**document, "source": _without_revision(document["source"])}
        if _leaves_trtllm(document.get("engine"), over.get("engine")):
            document = {**document, "engine": _without_options(document["engine"])}
        document = _merge(document, over)
    return document


def source_dir(layers: Sequence[Layer]) -> Path:
    """The folder that a relative `source.path` counts from: that of the layer which wrote it."""
    for layer in reversed(layers):
        node = find_node(layer.node, ("source", "path"))
        if isinstance(node, ScalarNode) and node.value is not None:
            return layer.base_dir
    return _main(layers).base_dir


def find_written(layers: Sequence[Layer], path: KeyPath) -> tuple[Layer, Node] | None:
    """The node that decides the value at a path: the last one written there; None for a default.

    The top of a recipe is the file's, whatever changes it.
    """
    if not path:
        main = _main(layers)
        return main, main.node
    for layer in reversed(layers):
        if (node := find_node(layer.node, path)) is not None:
            return layer, node
    return None


def mark_key(layers: Sequence[Layer], path: KeyPath) -> Mark:
    """The place of the key at a path, or of the nearest section around it that is written."""
    while (found := find_written(layers, path)) is None:
        path = path[:-1]
    mark = find_key_mark(found[0].node, path)
    assert mark is not None
    return mark


def mark_value(layers: Sequence[Layer], path: KeyPath) -> Mark:
    """The place of a single value; of the key where the value is empty or has several lines."""
    found = find_written(layers, path)
    if found is None or not isinstance(found[1], ScalarNode) or found[1].text == "":
        return mark_key(layers, path)
    return found[1].mark


def mark_latest(layers: Sequence[Layer], paths: Iterable[KeyPath]) -> Mark | None:
    """The place of the key that was written last: it is what made the others wrong."""
    candidates = list(paths)
    for layer in reversed(layers):
        for path in candidates:
            node = find_node(layer.node, path)
            if node is not None:
                is_single = isinstance(node, ScalarNode) and node.text != ""
                return node.mark if is_single else find_key_mark(layer.node, path)
    return None


def _main(layers: Sequence[Layer]) -> Layer:
    """The layer of the recipe file itself."""
    return next(layer for layer in reversed(layers) if layer.kind == "file")


def _merge(base: dict[str, Plain], over: dict[str, Plain]) -> dict[str, Plain]:
    merged = dict(base)
    for key, value in over.items():
        mine = base.get(key)
        both = isinstance(mine, dict) and isinstance(value, dict)
        merged[key] = _merge(mine, value) if both else value  # type: ignore[arg-type]
    return merged


def _names_another_source(base: Plain, over: Plain) -> bool:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return False
    return any(over.get(key) not in (None, base.get(key)) for key in ("repo", "path"))


def _names_another_hub(base: Plain, over: Plain) -> bool:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return False
    before = base.get("hub") or "huggingface"
    return (over.get("hub") or before) != before


def _without_revision(source: Plain) -> Plain:
    """A repo may have the same name on two hubs, but no commit, tag or branch is one of both."""
    assert isinstance(source, dict)
    return {key: value for key, value in source.items() if key not in {"revision", "endpoint"}}


def _leaves_trtllm(base: Plain, over: Plain) -> bool:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return False
    before = base.get("backend", "trtllm")
    return before == "trtllm" and over.get("backend", "trtllm") != "trtllm"


def _without_options(engine: Plain) -> Plain:
    assert isinstance(engine, dict)
    return {key: value for key, value in engine.items() if key not in TRTLLM_KEYS}
