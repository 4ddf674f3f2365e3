"""Fields of a class and parameters of a function as data: type, allowed values, default.

The words are those of `pipeline/trtllm/facts.json`: `int`, `str|null`, the name of a class. Of an
enumeration and of a literal the values are told too. Nothing here imports what it describes.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.artifact import Json


def fields_of(described: type[Any]) -> dict[str, dict[str, Json]]:
    """Field name -> `type`, `values` (None where open), `default`, `required`.

    Raises TypeError for a class that is neither a pydantic model nor a dataclass.
    """
    models = getattr(described, "model_fields", None)
    if models is not None:
        return {name: _pydantic_field(field) for name, field in models.items()}
    if not dataclasses.is_dataclass(described):
        raise TypeError(f"`{described.__name__}` is neither a pydantic model nor a dataclass")
    hints = typing.get_type_hints(described)
    return {
        field.name: _dataclass_field(hints[field.name], field)
        for field in dataclasses.fields(described)
        if not field.name.startswith("_")
    }


def parameters_of(function: Callable[..., Any]) -> dict[str, dict[str, Json]]:
    """Parameter name -> `default`, `required`; `self` and `**kwargs` are left out."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self" or parameter.kind in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}:
            continue
        required = parameter.default is parameter.empty
        default = None if required else as_json(parameter.default)
        found[name] = {"type": None, "values": None, "default": default, "required": required}
    return found


def as_json(value: object) -> Json:
    """A default as JSON: an enumeration's member by value or name, an object by its class."""
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value, str) else value.name
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    return f"{type(value).__name__}()"


def described_type(annotation: Any) -> tuple[str | None, list[Json] | None]:
    """An annotation's type in words, None for a literal, and its values, None where it is open."""
    names: list[str] = []
    literals: list[Json] = []
    members: list[Json] = []
    optional = False
    for piece in _pieces(annotation):
        if piece is type(None) or piece is None:
            optional = True
        elif typing.get_origin(piece) is typing.Literal:
            values = typing.get_args(piece)
            optional = optional or None in values
            literals += [value for value in values if value is not None]
        else:
            names.append(_name(piece))
            if isinstance(piece, type) and issubclass(piece, enum.Enum):
                members += [as_json(member) for member in piece]
    if literals and not names:
        return None, list(dict.fromkeys(literals)) + ([None] if optional else [])
    return "|".join(dict.fromkeys([*names, *(["null"] if optional else [])])), members or None


def _pieces(annotation: Any) -> Iterator[Any]:
    """The alternatives of an annotation, unions opened, `Annotated` taken off."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _pieces(typing.get_args(annotation)[0])
    elif origin is typing.Union or origin is types.UnionType:
        for argument in typing.get_args(annotation):
            yield from _pieces(argument)
    else:
        yield annotation


def _name(piece: Any) -> str:
    origin = typing.get_origin(piece)
    name = getattr(origin or piece, "__name__", None) or str(piece)
    arguments = typing.get_args(piece)
    if origin is None or not arguments:
        return str(name)
    inner = ", ".join("..." if a is ... else described_type(a)[0] or "str" for a in arguments)
    return f"{name}[{inner}]"


def _pydantic_field(field: Any) -> dict[str, Json]:
    kind, values = described_type(field.annotation)
    if field.default_factory is not None:
        default: Json = _made(field.default_factory)
    else:
        default = None if field.is_required() else as_json(field.default)
    return {"type": kind, "values": values, "default": default, "required": field.is_required()}


def _dataclass_field(annotation: Any, field: dataclasses.Field[Any]) -> dict[str, Json]:
    kind, values = described_type(annotation)
    required = False
    if field.default is not dataclasses.MISSING:
        default: Json = as_json(field.default)
    elif field.default_factory is not dataclasses.MISSING:
        default = _made(field.default_factory)
    else:
        default, required = None, True
    return {"type": kind, "values": values, "default": default, "required": required}


def _made(factory: Callable[..., Any]) -> Json:
    """What a default factory makes: containers by value, a class by its name, uncalled."""
    if factory in {list, dict, set, tuple}:
        return as_json(factory())
    return f"{getattr(factory, '__name__', 'factory')}()"
