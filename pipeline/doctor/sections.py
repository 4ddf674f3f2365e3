"""The facts of TensorRT-LLM 1.2 in the form in which an installed one is read, to compare the two.

A section maps names (fields, flags, architectures) to what is known of each: `type`, `values`,
`default`, `takes`, `class`, `required`, `aliases`, `status` (`prototype`, ...). What is not known
is left out, never None: `default: None` says that the default is None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.trtllm.facts import facts
from pipeline.trtllm.options import Option, options

Known = dict[str, Json]

FIELD_SECTIONS = (
    "build_config",
    "checkpoint_config",
    "mapping",
    "quant_config",
    "llm_arguments",
    "kv_cache_config",
    "sampling_params",
)
"""Sections of `facts.json` whose entries say type, values and default; those absent are empty."""

RUNTIME_SECTIONS = ("llm_arguments", "kv_cache_config", "sampling_params")
"""Their types are told in words of ours (`path`, `object`), so that only the rest is compared."""

_FIELD_ASPECTS = ("type", "values", "default", "required", "status")

_MEMBER = re.compile(r"[A-Za-z]\w*\.[A-Z_]+")
"""A default that names the member of an enumeration, which may be read by value or by name."""


def expected_sections() -> dict[str, dict[str, Known]]:
    """Section -> name -> what `facts.json` knows of it."""
    known = facts()
    sections = {name: _fields(name, known.get(name, {})) for name in FIELD_SECTIONS}
    sections["plugin_config"] = {
        name: _plugin_field(fact) for name, fact in known["plugin_config"].items()
    }
    sections["architectures"] = {
        name: {"class": fact["model_class"]} for name, fact in known["architectures"].items()
    }
    sections["quant_algos"] = {name: {} for name in known["quant_algos"]}
    sections["trtllm_build"] = _flags()
    return sections


def _fields(section: str, facts_of: Mapping[str, Mapping[str, Json]]) -> dict[str, Known]:
    is_runtime = section in RUNTIME_SECTIONS
    return {name: _field(fact, is_runtime=is_runtime) for name, fact in facts_of.items()}


def _field(fact: Mapping[str, Json], *, is_runtime: bool) -> Known:
    known = {
        aspect: fact[aspect]
        for aspect in _FIELD_ASPECTS
        if aspect in fact and not _MEMBER.fullmatch(str(fact[aspect]))
    }
    known.setdefault("required", False)
    if is_runtime:
        kind = str(known.pop("type", ""))
        if "values" in known and kind.endswith("|null"):
            known["values"] = [*known["values"], None]
    return known


def _plugin_field(fact: Mapping[str, Json]) -> Known:
    """Values that are true and false are a type; `values` that is a text names the type."""
    values, default = fact["values"], fact["default"]
    if isinstance(values, str):
        return {"type": values, "default": default}
    if True in values:
        return {"type": "bool|null" if None in values else "bool", "default": default}
    return {"values": values, "default": default}


def _flags() -> dict[str, Known]:
    """Flag -> `takes`, `values`, `default` as `trtllm-build --help` writes them."""
    details = facts()["trtllm_build_flag_details"]
    flags = {option.flag: _flag(option, details) for option in options().values() if option.flag}
    for alias, flag in details["aliases"].items():
        flags[flag].setdefault("aliases", []).append(alias)
    return flags


def _flag(option: Option, details: Mapping[str, Json]) -> Known:
    takes = {"switch": "nothing", "list": "many"}.get(option.form, "one")
    known: Known = {"takes": takes}
    if option.form == "on_off":
        if option.default is not None:
            known["default"] = "enable" if option.default else "disable"
            known["values"] = ["enable", "disable"]
        return known
    if option.form != "switch" and option.values is not None:
        values = [value for value in option.values if value is not None]
        known["values"] = [*values, *(["disable"] if option.form == "dtype" else [])]
    if option.form == "dtype" and option.default is None:
        known["default"] = "disable"
    elif option.form == "switch":
        known["default"] = "False"
    elif option.flag in details["defaults"]:
        known["default"] = str(details["defaults"][option.flag])
    elif option.part != "command" and option.name != "kv_cache_type":
        # `kv_cache_type` has no default on the command line (argparse.SUPPRESS).
        known["default"] = str(option.default)
    return known
