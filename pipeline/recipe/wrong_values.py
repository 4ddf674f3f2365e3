"""Values that a key cannot have: what was found, what is expected, what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any, get_args

from pydantic.fields import FieldInfo

from pipeline.recipe.build_options import BuildOptions
from pipeline.recipe.known_names import KNOWN_VALUES, PATTERNS, SHORTHANDS
from pipeline.recipe.layers import Layer, find_written, mark_value
from pipeline.recipe.mistakes import Mistake
from pipeline.recipe.nodes import BrokenNode, KeyPath, ListNode, MapNode, Node, ScalarNode, dotted
from pipeline.recipe.plain_scalars import quote_if_needed
from pipeline.recipe.sections import sections
from pipeline.trtllm.options import options

MAX_QUOTED = 60

_OPTION_SOURCES = {
    "build": "TensorRT-LLM `builder.py`, BuildConfig",
    "command": "TensorRT-LLM `commands/build.py`",
    "plugin": "TensorRT-LLM `plugin/plugin.py`, PluginConfig",
}

_OLD_BOOLEANS = {
    **dict.fromkeys(("yes", "y", "on", "1", "enable", "enabled"), "true"),
    **dict.fromkeys(("no", "n", "off", "0", "disable", "disabled"), "false"),
}
_RANGES = {
    "greater_than_equal": ("ge", "{} or more"),
    "greater_than": ("gt", "more than {}"),
    "less_than_equal": ("le", "{} or less"),
    "less_than": ("lt", "less than {}"),
}


def wrong_value(fault: Mapping[str, Any], layers: Sequence[Layer]) -> Mistake:
    """The mistake of one value. `fault` is an entry of pydantic's `ValidationError.errors()`."""
    path: KeyPath = fault["loc"]
    found = find_written(layers, path)
    assert found is not None  # defaults are right
    message, hint = _explain(fault, path, found[1])
    mark = mark_value(layers, path)
    advice = f"{hint or _advise_default(path)}{_told_source(path)}"
    return Mistake(mark, f"`{dotted(path)}` {message}", advice)


def _told_source(path: KeyPath) -> str:
    """For an option of TensorRT-LLM, which of its classes has the values that are right."""
    known = options().get(str(path[1])) if path[0] == "engine" and len(path) > 1 else None
    if known is None or known.name not in BuildOptions.model_fields:
        return ""
    return f" ({_OPTION_SOURCES[known.part]})"


def describe(node: Node) -> str:
    """A value in the words of a message: `the number `8``."""
    match node:
        case ScalarNode(text=""):
            return "nothing"
        case ScalarNode(value=bool()):
            return f"the boolean `{node.text}`"
        case ScalarNode(value=int() | float()):
            return f"the number `{node.text}`"
        case ScalarNode(value=None):
            return f"`{node.text}`"
        case ScalarNode(value=str() as value, text=None):
            return f"the quoted text `{_quote(value)}`"
        case ScalarNode(value=value):
            return f"the text `{_cut(str(value))}`"
        case ListNode():
            return "a list"
        case MapNode():
            return "a section"
        case BrokenNode():
            return "something unreadable"


def _explain(fault: Mapping[str, Any], path: KeyPath, node: Node) -> tuple[str, str | None]:
    """What the value must be, and the hint. Kinds of faults: pydantic-core, error types."""
    kind, context = fault["type"], fault.get("ctx", {})
    field = dotted([step for step in path if isinstance(step, str)])
    if kind in _TYPES:
        expected, advise = _TYPES[kind]
        return f"must be {expected}, found {describe(node)}", advise(field, node)
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        choices += ["null"] if _may_be_null(path) else []
        listed = ", ".join(f"`{choice}`" for choice in choices)
        expected = f"one of {listed}" if len(choices) > 1 else f"{listed}, the only choice so far"
        return f"must be {expected}, found {describe(node)}", _nearest_value(field, node, choices)
    if kind == "string_pattern_mismatch":
        form = _nearest_form(field, node, context["pattern"])
        return f"must be {PATTERNS[field]}, found {describe(node)}", form
    if kind in _RANGES:
        limit, words = _RANGES[kind]
        return f"must be {words.format(f'{context[limit]:g}')}, found {describe(node)}", None
    if kind in ("string_too_short", "too_short"):
        return "must not be empty", None
    if kind == "string_too_long":
        return f"has more than {context['max_length']} characters", None
    message = context.get("message", fault["msg"])
    return message, context.get("hint")


def _may_be_null(path: KeyPath) -> bool:
    """Whether a key can be left without a value by writing `null`."""
    field = _field(path)
    return field is not None and NoneType in get_args(field.annotation)


def _advise_default(path: KeyPath) -> str:
    """What to do where nothing better is known: the default, or to say something else."""
    if isinstance(path[-1], int):
        return "correct it, or remove it from the list"
    field = _field(path)
    if field is None:
        return "correct it, or remove it"
    if field.is_required():
        return "it has no default: give it a value"
    if field.default is None:
        return "correct it, or leave it out"
    if isinstance(field.default, str | int | float):
        return f"leave it out for the default, `{str(field.default).lower()}`"
    return "correct it, or leave it out for the default"


def _field(path: KeyPath) -> FieldInfo | None:
    """What the schema says of a key; None for items of lists, and of sections of free names."""
    section = sections().get(tuple(step for step in path[:-1] if isinstance(step, str)))
    return None if section is None else section.model_fields.get(str(path[-1]))


def _advise_boolean(_field: str, node: Node) -> str | None:
    written = str(node.value).lower() if isinstance(node, ScalarNode) else ""
    if written in _OLD_BOOLEANS:
        right = _OLD_BOOLEANS[written]
        return f"write `{right}`: in YAML 1.2 only `true` and `false` are booleans"
    return f"write `{written}` without quotes" if written in ("true", "false") else None


def _advise_text(field: str, node: Node) -> str | None:
    if not isinstance(node, ScalarNode) or node.value is None:
        return None
    if field == "engine.targets":
        is_capability = re.fullmatch(r"[0-9]+\.[0-9]|[0-9]{2,3}", str(node.text))
        return f"write `sm{str(node.text).replace('.', '') if is_capability else 89}`"
    meaning = str(node.value)
    lost = f": without quotes it means {meaning}" if meaning.lower() != str(node.text) else ""
    return f'put it in quotes: `"{node.text}"`{lost}'


def _advise_number(_field: str, node: Node) -> str | None:
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
        return None
    is_number = re.fullmatch(r"[0-9]+(\.[0-9]+)?", node.value)
    return f"write `{node.value}` without quotes" if is_number else None


def _advise_integer(_field: str, node: Node) -> str | None:
    if not isinstance(node, ScalarNode):
        return None
    if isinstance(node.value, float):
        return f"write `{int(node.value)}`" if node.value.is_integer() else None
    digits = re.sub(r"[_, ']", "", str(node.value)).lstrip("0") or "0"
    if isinstance(node.value, str) and re.fullmatch(r"[0-9]{1,18}", digits):
        return f"write `{digits}`{' without quotes' if node.text is None else ''}"
    return None


def _advise_list(field: str, node: Node) -> str | None:
    if isinstance(node, ScalarNode) and node.value is not None:
        item = quote_if_needed(_cut(str(node.value) if node.text is None else node.text))
        key = SHORTHANDS.get(field)
        return f"write `[{{{key}: {item}}}]`" if key else f"write `[{item}]`"
    return "begin each item with `- `, or write `[a, b]`"


def _advise_section(field: str, node: Node) -> str | None:
    key = SHORTHANDS.get(field)
    if isinstance(node, ScalarNode) and node.value is not None and key:
        return f"write `{{{key}: {quote_if_needed(_cut(str(node.value)))}}}`"
    if isinstance(node, ListNode):
        return "write its keys without `- ` and without `[]`"
    return "give it keys, indented below it or in `{}`"


_TYPES: dict[str, tuple[str, Callable[[str, Node], str | None]]] = {
    "bool_type": ("`true` or `false`", _advise_boolean),
    "string_type": ("text", _advise_text),
    "int_type": ("a whole number", _advise_integer),
    "int_from_float": ("a whole number", _advise_integer),
    "float_type": ("a number", _advise_number),
    "tuple_type": ("a list", _advise_list),
    "model_type": ("a section", _advise_section),
    "dict_type": ("a section of names", _advise_section),
}


def _nearest_value(field: str, node: Node, choices: Sequence[str]) -> str | None:
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str | bool):
        return None
    written = str(node.value).lower()
    known = {choice: choice for choice in choices} | KNOWN_VALUES.get(field, {})
    if written in known:
        return f"write `{known[written]}`"
    if field == "checkpoint.dtype" and re.match(r"(fp|int|nvfp|mxfp)[48]", written):
        return "weights are stored so by `checkpoint.quantization`, which knows only `none` so far"
    if field == "engine.backend" and written in ("pytorch", "torch", "_autodeploy", "autodeploy"):
        return (
            "TensorRT-LLM 1.3 and later have no engines: write `package: {kind: pytorch}` instead"
        )
    nearest = difflib.get_close_matches(written, choices, n=1, cutoff=0.7)
    return f"did you mean `{nearest[0]}`?" if nearest else None


def _nearest_form(field: str, node: Node, pattern: str) -> str | None:
    """The value in the form that its pattern wants, where that can be told."""
    written = str(node.value).strip() if isinstance(node, ScalarNode) else ""
    lower = written.lower()
    form = ""
    if field == "source.repo":
        if written[:1] in (".", "/", "~"):
            return "a local folder is given by `path`"
        address = re.match(r"https?://([^/]+)/(?:models/)?([^/?#]+/[^/?#]+)", written)
        form = address[2] if address else ""
        if address and re.search(pattern, form) and "modelscope" in address[1]:
            return f"write `{form}`, and `hub: modelscope` beside it"
    elif field == "engine.targets":
        digits = re.fullmatch(r"(?:sm|compute)?[ _-]*([0-9]+)\.?([0-9])a?", lower)
        known = KNOWN_VALUES[field].get(re.sub(r"^(nvidia|geforce)\s+", "", lower), "")
        form = known if digits is None else f"sm{digits[1]}{digits[2]}"
    elif field == "name":
        form = re.sub(r"[^a-z0-9._-]+", "-", lower).strip("._-")
    return f"write `{form}`" if re.search(pattern, form) else None


def _quote(text: str) -> str:
    return _cut('"' + text.replace("\n", "\\n") + '"')


def _cut(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "..."
