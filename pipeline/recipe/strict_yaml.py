"""YAML as recipes are allowed to use it: YAML 1.2 core values, and nothing that hides meaning.

Refused: duplicate keys, tags, anchors, aliases, merge keys, directives, several documents, tabs,
keys that are not text, deep nesting, large files, bytes that are not UTF-8. The parser's events
are read directly, because a composed node tree no longer shows anchors, and because nesting can
then be refused before libyaml, whose time grows with its square, has gone through it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.recipe.mistakes import Mark, Mistake, Origin
from pipeline.recipe.nodes import BrokenNode, Entry, ListNode, MapNode, Node, ScalarNode
from pipeline.recipe.plain_scalars import resolve_plain
from pipeline.recipe.yaml_syntax import MAX_DEPTH, TOO_DEEP, reader_mistakes, syntax_mistake

MAX_BYTES = 1 << 20

MAX_NODES = 50_000
"""Keys, values, lists and sections; what is checked of each takes time, and its mistakes more."""

_Event = Any
"""An event of the parser; the stubs of PyYAML lack the attributes of its kinds."""

_KEY_HINT = "write `key: value`"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class ParsedYaml:
    """What was understood, and every mistake; `node` is None where the text is no YAML at all."""

    node: Node | None
    mistakes: tuple[Mistake, ...]


def parse_bytes(data: bytes, name: str) -> ParsedYaml:
    """Parse a file; `name` is how messages call it. Never raises."""
    if len(data) > MAX_BYTES:
        hint = "name a recipe: a YAML file of some lines"
        return _refuse_file(name, f"the file is larger than {MAX_BYTES} bytes", hint)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A byte order mark is three bytes that the message counts and the decoder does not.
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, start) + 1
        message = f"byte {start} (line {line}) is not UTF-8: 0x{data[start]:02x}"
        return _refuse_file(name, message, "save the file as UTF-8")
    return parse_text(text, Origin(name, tuple(_BREAK.split(text))))


def parse_text(text: str, origin: Origin) -> ParsedYaml:
    """Parse a text, all of its mistakes gathered as far as the parser can go on. Never raises."""
    mistakes = reader_mistakes(text, origin)
    builder = _Builder(origin)
    events = yaml.parse(text.replace("\t", " "), Loader=_LOADER)
    node: Node | None = None
    try:
        node = builder.document(events)
    except _TooMuch as too_much:
        mistakes.append(too_much.mistake)
    except yaml.YAMLError as error:
        if not mistakes:  # tabs and control characters are why the rest makes no sense
            mistakes.append(syntax_mistake(error, origin))
    return ParsedYaml(node, (*mistakes, *builder.mistakes))


class _TooMuch(Exception):
    """Ends the parsing: what is nested deeper, or comes after so many values, is not looked at."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.message)
        self.mistake = mistake


class _Builder:
    """Builds nodes from the events of one document and collects mistakes."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._num_nodes = 0
        self.mistakes: list[Mistake] = []

    def document(self, events: Iterator[_Event]) -> Node:
        """The node of the only document; an empty text gives an empty scalar."""
        next(events)  # StreamStart
        event = next(events)
        if isinstance(event, yaml.StreamEndEvent):
            return ScalarNode(Mark(self._origin, 1, 1), None, "")
        if event.version or event.tags:
            hint = "remove the line that begins with `%`; recipes are always YAML 1.2"
            self._add(event, "directives are not allowed", hint)
        node = self._node(next(events), events, depth=1)
        next(events)  # DocumentEnd
        event = next(events)
        if not isinstance(event, yaml.StreamEndEvent):
            hint = "remove the `---`; use `variants` or a file that `extends` this one"
            self._add(event, "a second document begins here: a file holds one recipe", hint)
        return node

    def _node(self, event: _Event, events: Iterator[_Event], depth: int) -> Node:
        mark = self._mark(event)
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES:
            message = f"the recipe has more than {MAX_NODES} keys and values"
            raise _TooMuch(Mistake(mark, message, "put what belongs together in files of its own"))
        if isinstance(event, yaml.AliasEvent):
            hint = "write the value out, or use `extends` or `variants`"
            self._add(event, f"the alias `*{event.anchor}` is not allowed", hint)
            return BrokenNode(mark)
        if event.anchor is not None:
            hint = "remove it; to share settings use `extends` or `variants`"
            self._add(event, f"the anchor `&{event.anchor}` is not allowed", hint)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif depth > MAX_DEPTH:
            raise _TooMuch(Mistake(mark, TOO_DEEP.message, TOO_DEEP.hint))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = ListNode(mark, tuple(self._items(events, depth + 1)))
        else:
            node = MapNode(mark, self._entries(events, depth + 1))
        if event.tag is not None:
            hint = "remove it; quote a value to make it text"
            self._add(event, f"the tag `{_short_tag(event.tag)}` is not allowed", hint)
            return BrokenNode(mark)
        return node

    def _items(self, events: Iterator[_Event], depth: int) -> Iterator[Node]:
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            yield self._node(event, events, depth)

    def _entries(self, events: Iterator[_Event], depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key_node = self._node(event, events, depth)
            key = self._key(event, key_node)
            reported = len(self.mistakes)
            node = self._node(next(events), events, depth)
            if key == "<<":
                del self.mistakes[reported:]  # the alias that it merges
            elif key in entries:
                line = entries[key].key_mark.line
                first = f": it was first given in line {line}" if self._origin.is_file else ""
                hint = "keep one of the two; neither silently wins"
                self._add(event, f"duplicate key `{key}`{first}", hint)
            elif key is not None:
                entries[key] = Entry(key_node.mark, node)
        return entries

    def _key(self, event: _Event, node: Node) -> str | None:
        """The text of a key, or None with a mistake."""
        if isinstance(node, BrokenNode):
            return None
        if not isinstance(node, ScalarNode):
            self._add(event, "a key must be text, found a list or a section", _KEY_HINT)
            return None
        if node.text == "<<":
            hint = "use `extends` or `variants` to build on other settings"
            self._add(event, "the merge key `<<` is not allowed", hint)
            return "<<"
        if isinstance(node.value, str):
            return node.value
        if node.text:
            self._add(event, f"the key `{node.text}` is not text", f'quote it: `"{node.text}"`')
        else:
            self._add(event, "there is no key before this `:`", _KEY_HINT)
        return None

    def _scalar(self, event: _Event) -> Node:
        mark = self._mark(event)
        if not event.implicit[0] or event.tag is not None:
            return ScalarNode(mark, event.value, None)
        try:
            return ScalarNode(mark, resolve_plain(event.value), event.value)
        except OverflowError:
            message = f"the number `{_cut(event.value)}` is out of range"
            self._add(event, message, "quote it if it is text, e.g. a commit")
            return BrokenNode(mark)

    def _mark(self, event: _Event) -> Mark:
        start, end = event.start_mark, event.end_mark
        num_chars = end.column - start.column if end.line == start.line else 1
        return Mark(self._origin, start.line + 1, start.column + 1, max(1, num_chars))

    def _add(self, event: _Event, message: str, hint: str | None = None) -> None:
        self.mistakes.append(Mistake(self._mark(event), message, hint))


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _cut(text: str) -> str:
    return text if len(text) <= 50 else text[:50] + "..."


def _refuse_file(name: str, message: str, hint: str) -> ParsedYaml:
    """A file that is not read further: the mistake is the file's as a whole."""
    return ParsedYaml(None, (Mistake(Mark(Origin(name), 0, 0), message, hint),))
