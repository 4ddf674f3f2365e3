"""`--set key.path=value`: one value of a recipe, from the command line."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.recipe.known_names import SECRET_KEYS
from pipeline.recipe.layers import Layer
from pipeline.recipe.mistakes import Mark, Mistake, Origin
from pipeline.recipe.nodes import Entry, ListNode, MapNode, Node
from pipeline.recipe.strict_yaml import parse_text
from pipeline.recipe.yaml_syntax import MAX_DEPTH

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_ESCAPE = 'write an escape in double quotes, e.g. `"a\\nb"`'
_EXAMPLE = "write `--set engine.max_batch_size=4`"


def parse_override(text: str) -> Layer | list[Mistake]:
    """The layer of one `--set`, or what is wrong with it.

    The value follows the rules of recipe files, on one line: a single value, or a list or mapping
    in flow style. A relative `source.path` counts from the current folder.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    shown = f"{path}=***" if keys[-1] in SECRET_KEYS else text
    origin = Origin(f"--set {shown}", is_file=False)
    mark = Mark(origin, 0, 0)
    if not equals:
        return [Mistake(mark, "there is no `=` and no value", _EXAMPLE)]
    if (mistake := _check_path(keys, mark)) is not None:
        return [mistake]
    node = _parse_value(value.strip(), origin)
    if isinstance(node, list):
        return node
    for key in reversed(keys):
        node = MapNode(mark, {key: Entry(mark, node)})
    assert isinstance(node, MapNode)
    return Layer(node, Path(), "set")


def _check_path(keys: list[str], mark: Mark) -> Mistake | None:
    if keys[0] in ("extends", "variants"):
        return Mistake(mark, f"`{keys[0]}` cannot be set", "choose a variant by `--variant NAME`")
    if len(keys) > MAX_DEPTH:
        return Mistake(mark, f"a path of {len(keys)} keys", "no section of a recipe lies that deep")
    if keys == [""]:
        return Mistake(mark, "there is no key before the `=`", _EXAMPLE)
    for key in keys:
        if re.fullmatch(r".*\[.*\]|[0-9]+", key):
            hint = "give the whole list: `--set 'smoke.prompts=[{text: Hello}]'`"
            return Mistake(mark, "an item of a list cannot be set alone", hint)
        if not _KEY.fullmatch(key):
            return Mistake(mark, f"`{'.'.join(keys)}` is not a path of keys", _EXAMPLE)
    return None


def _parse_value(value: str, origin: Origin) -> Node | list[Mistake]:
    """The node of a value, every mark being the whole `--set`."""
    mark = Mark(origin, 0, 0)
    if not value:
        return [Mistake(mark, "the value is empty", 'write `""` for empty text, `null` for none')]
    if not value.isprintable():
        return [Mistake(mark, "the value has unprintable characters", _ESCAPE)]
    parsed = parse_text(value, Origin(origin.name, (value,), is_file=False))
    if parsed.node is None or parsed.mistakes:
        return list(parsed.mistakes)
    if isinstance(parsed.node, MapNode | ListNode) and value[0] not in "[{":
        hint = "quote text that has `: ` or begins with `- `; write a mapping as `{key: value}`"
        return [Mistake(mark, "the value is a list or mapping without brackets", hint)]
    return parsed.node
