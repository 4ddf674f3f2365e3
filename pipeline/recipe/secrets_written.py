"""Secrets that are written in a recipe, which is kept, published and shown: they are refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.recipe.layers import Layer
from pipeline.recipe.mistakes import Mistake
from pipeline.recipe.nodes import KeyPath, ListNode, MapNode, Node, ScalarNode, dotted
from pipeline.redaction import secret_finder

_HINT = (
    "a recipe holds no secrets: remove it, and set `HF_TOKEN` or log in by `hf auth login`; one "
    "that was shared should be revoked"
)


def secret_mistakes(layers: Sequence[Layer]) -> list[Mistake]:
    """A mistake for every value that holds a credential; the value is not shown."""
    holds_secret = secret_finder() if layers else bool
    return [
        Mistake(node.mark, f"`{dotted(path)}` holds a token or password", _HINT, is_secret=True)
        for layer in layers
        for path, node in _texts(layer.node, ())
        if holds_secret(str(node.value))
    ]


def _texts(node: Node, path: KeyPath) -> Iterator[tuple[KeyPath, ScalarNode]]:
    if isinstance(node, MapNode):
        for key, entry in node.entries.items():
            yield from _texts(entry.node, (*path, key))
    elif isinstance(node, ListNode):
        for number, item in enumerate(node.items):
            yield from _texts(item, (*path, number))
    elif isinstance(node, ScalarNode) and isinstance(node.value, str) and len(node.value) >= 8:
        yield path, node
