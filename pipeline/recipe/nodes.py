"""YAML values that remember where they were written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.recipe.mistakes import Mark

KeyPath = tuple[str | int, ...]
"""Keys and list indices from the top of a recipe, e.g. `("smoke", "prompts", 0, "text")`."""

Plain = str | int | float | bool | None | list["Plain"] | dict[str, "Plain"]
"""A value as plain Python: what JSON can hold."""


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A single value. `text` is how a plain one is written; None for quoted and block text."""

    mark: Mark
    value: str | int | float | bool | None
    text: str | None


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list, in block or flow style."""

    mark: Mark
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapNode:
    """A mapping; its keys are in the order of the text."""

    mark: Mark
    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class BrokenNode:
    """A value about which a mistake was already reported: nothing more is said about it."""

    mark: Mark


Node = ScalarNode | ListNode | MapNode | BrokenNode


@dataclass(frozen=True, slots=True)
class Entry:
    """A value of a mapping and the place of its key."""

    key_mark: Mark
    node: Node


def plain(node: Node) -> Plain:
    """The node as plain Python; entries whose value is broken are left out."""
    if isinstance(node, MapNode):
        items = node.entries.items()
        return {key: plain(entry.node) for key, entry in items if not is_broken(entry.node)}
    if isinstance(node, ListNode):
        return [plain(item) for item in node.items]
    return None if isinstance(node, BrokenNode) else node.value


def is_broken(node: Node) -> bool:
    """Whether a mistake was reported about the value itself or about an item of the list."""
    if isinstance(node, ListNode):
        return any(is_broken(item) for item in node.items)
    return isinstance(node, BrokenNode)


def find_node(root: Node, path: KeyPath) -> Node | None:
    """The node at a path, or None where the path leads nowhere."""
    node: Node | None = root
    for step in path:
        node = _child(node, step)
    return node


def find_key_mark(root: Node, path: KeyPath) -> Mark | None:
    """The place of the key that a path ends with; of the item for a list index."""
    if not path:
        return root.mark
    parent = find_node(root, path[:-1])
    if isinstance(parent, MapNode) and path[-1] in parent.entries:
        return parent.entries[str(path[-1])].key_mark
    item = _child(parent, path[-1])
    return None if item is None else item.mark


def dotted(path: Sequence[str | int]) -> str:
    """A path as messages write it: `smoke.prompts[0].text`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _child(node: Node | None, step: str | int) -> Node | None:
    if isinstance(node, MapNode) and isinstance(step, str):
        entry = node.entries.get(step)
        return None if entry is None else entry.node
    if isinstance(node, ListNode) and isinstance(step, int) and step < len(node.items):
        return node.items[step]
    return None
