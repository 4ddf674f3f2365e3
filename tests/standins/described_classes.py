"""The classes of `described_package`, made from the document in its folder when it is imported."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Optional, Union

from pydantic import ConfigDict, Field, create_model

from pipeline.artifact import Json
from tests.standins import arguments

PLAIN = {
    "int": int,
    "dict": dict,
    "path": Path,
    "float": float,
    "bool": bool,
    "str": str,
    "object": object,
}
PLAIN |= {"list[str]": list[str], "list[float]": list[float], "list[int]": list[int]}

LoraConfig = dataclasses.make_dataclass("LoraConfig", [])
PluginConfig = dataclasses.make_dataclass("PluginConfig", [])
KVCacheType = enum.Enum(
    "KVCacheType", {v.upper(): v for v in ("continuous", "paged", "disabled")}, type=str
)
SpeculativeDecodingMode = enum.IntFlag("SpeculativeDecodingMode", {"NONE": 1, "MEDUSA": 4})


def make(folder: str, name: str) -> Any:
    """The object of that name."""
    document = json.loads((Path(folder) / "described.json").read_bytes())
    return _MADE[name](document)


def main(folder: str) -> None:
    """`trtllm-build --help`, with the defaults as `ArgumentDefaultsHelpFormatter` writes them."""
    document = json.loads((Path(folder) / "described.json").read_bytes())
    arguments.facts = lambda: document
    parser = arguments.build_parser()
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    for action in parser._actions:
        action.help = action.help or f"What {action.dest} does (in words), at some length."
    parser.parse_args()


def _model(name: str, section: Mapping[str, Json]) -> Any:
    fields = {field: _field(fact) for field, fact in section.items()}
    config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(name, __config__=config, **fields)


def _field(fact: Json) -> tuple[Any, Any]:
    """Annotation and default of one field."""
    kind = _annotation(fact)
    if fact.get("required"):
        return kind, ...
    default = fact.get("default")
    if isinstance(default, str) and default.endswith("()"):
        return kind, Field(default_factory=_named(default[:-2]))
    if fact.get("type") == "SpeculativeDecodingMode":
        return kind, SpeculativeDecodingMode[default]
    return kind, default


def _annotation(fact: Json) -> Any:
    """`int|null`, the name of a class, or a literal of the values."""
    values = fact.get("values")
    text = fact.get("type", values if isinstance(values, str) else None)
    if text is None and isinstance(values, list):
        if True in values:
            return Optional[bool] if None in values else bool  # noqa: UP045 - as it is there
        return Literal[tuple(values)]
    if text is None:
        return Any
    pieces = [_piece(each) for each in str(text).split("|")]
    return Union[tuple(pieces)]  # noqa: UP007 - as it is there


def _piece(name: str) -> Any:
    return None if name == "null" else PLAIN.get(name) or _named(name)


def _named(name: str) -> Any:
    """A class of this module, or a new one."""
    known = globals().get(name)
    return known if isinstance(known, type) else type(name, (), {})


def _class_map(document: Json) -> dict[str, type[Any]]:
    rows = document["architectures"].items()
    return {name: type(fact["model_class"], (), {}) for name, fact in rows}


def _constructed(name: str, section: Mapping[str, Json]) -> type[Any]:
    """A class whose constructor has these parameters, by keyword."""

    def construct(self: object, **keys: Json) -> None: ...

    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for key, fact in section.items():
        default = inspect.Parameter.empty if fact.get("required") else fact["default"]
        parameters.append(inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default))
    parameters.append(inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD))
    construct.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return type(name, (), {"__init__": construct})


def _dataclass(name: str, section: Mapping[str, Json]) -> type[Any]:
    rows: list[Any] = []
    for field, fact in section.items():
        default = fact.get("default")
        if isinstance(default, str) and default.endswith("()"):
            spec = dataclasses.field(default_factory=_named(default[:-2]))
        elif isinstance(default, list):
            spec = dataclasses.field(default_factory=list)
        else:
            spec = dataclasses.field(default=default)
        rows.append((field, _annotation(fact), spec))
    return dataclasses.make_dataclass(name, rows, kw_only=True)


_MADE: Mapping[str, Any] = {
    "BuildConfig": lambda document: _model("BuildConfig", document["build_config"]),
    "PluginConfig": lambda document: _model("PluginConfig", document["plugin_config"]),
    "MODEL_MAP": _class_map,
    "PretrainedConfig": lambda document: _constructed(
        "PretrainedConfig", document["checkpoint_config"]
    ),
    "QuantConfig": lambda document: _dataclass("QuantConfig", document["quant_config"]),
    "Mapping": lambda document: _constructed("Mapping", document["mapping"]),
    "QuantAlgo": lambda document: enum.Enum(
        "QuantAlgo", {name: name for name in document["quant_algos"]}, type=str
    ),
    "TrtLlmArgs": lambda document: _model("TrtLlmArgs", document.get("llm_arguments", {})),
    "KvCacheConfig": lambda document: _model("KvCacheConfig", document.get("kv_cache_config", {})),
    "SamplingParams": lambda document: _dataclass(
        "SamplingParams", document.get("sampling_params", {})
    ),
}
