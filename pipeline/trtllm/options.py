"""Every option of a TensorRT-LLM 1.2 build: fields of BuildConfig and PluginConfig, and flags.

Source: `facts.json`, which names the files that were read. An option goes by its field's name
(`use_strip_plan`), also where the flag of `trtllm-build` is spelt otherwise (`--strip_plan`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from pipeline.artifact import Json
from pipeline.trtllm.facts import facts

Part = Literal["build", "plugin", "command"]
"""Where an option is: a field of BuildConfig, of PluginConfig, or of the command line alone."""

Form = Literal["value", "list", "switch", "on_off", "dtype"]
"""How its flag is written: `--x 8`; `--x a b`; `--x` or nothing; `--x enable`; `--x float16`, where
`disable` stands for None."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `values`: all that it may be, where that is a list; None for numbers and texts.

    `default` is TensorRT-LLM's own, not that of a recipe. `flag` is None where `trtllm-build` has
    none: TensorRT-LLM then decides it itself.
    """

    name: str
    part: Part
    flag: str | None
    form: Form
    values: tuple[Json, ...] | None
    default: Json

    def arguments(self, value: Json) -> list[str]:
        """The option on the command line of `trtllm-build`; empty for None and for an unset switch.

        A plugin or an on/off option is always written: a command line then says all that it asks.
        """
        assert self.flag is not None, self.name
        if self.form == "switch":
            return [self.flag] if value else []
        if self.form == "on_off":
            return [self.flag, "enable" if value else "disable"]
        if self.form == "dtype":
            return [self.flag, "disable" if value is None else str(value)]
        if value is None:
            return []
        items = value if self.form == "list" else [value]
        return [self.flag, *map(str, items)] if items else []


@cache
def options() -> Mapping[str, Option]:
    """Every option by name: BuildConfig's, PluginConfig's, then those of the command alone."""
    found = [*_build_options(), *_plugin_options()]
    taken = {option.flag for option in found}
    details = facts()["trtllm_build_flag_details"]
    hidden = taken | set(details["aliases"])
    found += [_command_option(flag) for flag in facts()["trtllm_build_flags"] if flag not in hidden]
    return {option.name: option for option in found}


def _build_options() -> list[Option]:
    found = []
    for name, fact in facts()["build_config"].items():
        values = fact.get("values")
        flag, default = fact["cli_flag"], fact["default"]
        if flag in facts()["trtllm_build_flag_details"]["choices"]:
            values = facts()["trtllm_build_flag_details"]["choices"][flag]
        found.append(Option(name, "build", flag, _form(flag), _tuple(values), default))
    return found


def _plugin_options() -> list[Option]:
    found = []
    for name, fact in facts()["plugin_config"].items():
        values = fact["values"]
        if not isinstance(values, list):
            form: Form = "value"
        else:
            form = "on_off" if True in values else "dtype"
        listed = _tuple(values) if isinstance(values, list) else None
        found.append(Option(name, "plugin", fact["cli_flag"], form, listed, fact["default"]))
    return found


def _command_option(flag: str) -> Option:
    details = facts()["trtllm_build_flag_details"]
    form = _form(flag)
    values = _tuple(details["choices"].get(flag))
    default = details["defaults"].get(flag, False if form == "switch" else None)
    return Option(flag.removeprefix("--"), "command", flag, form, values, default)


def _form(flag: str | None) -> Form:
    details = facts()["trtllm_build_flag_details"]
    if flag in details["switches"]:
        return "switch"
    return "list" if flag in details["lists"] else "value"


def _tuple(values: list[Json] | None) -> tuple[Json, ...] | None:
    return None if values is None else tuple(values)
