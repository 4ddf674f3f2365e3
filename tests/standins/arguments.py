"""The command line of `trtllm-build`, generated from the JSON of facts, and stricter.

Flags cannot be abbreviated or repeated, and sizes must be whole and not negative.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pipeline.artifact import Json
from pipeline.trtllm.facts import facts

LEVELS = ("internal_error", "error", "warning", "info", "verbose", "debug", "trace")


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The namespace of a command line; exits with 2 where the real parser would, and earlier."""
    parser = build_parser()
    given = [item for item in argv if item.startswith("--")]
    repeated = sorted({flag for flag in given if given.count(flag) > 1})
    if repeated:
        parser.error(f"given more than once: {', '.join(repeated)}")
    return parser.parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Every flag of the facts, and no other. Source: facts.json, which names its own."""
    parser = argparse.ArgumentParser("trtllm-build", allow_abbrev=False)
    details = facts()["trtllm_build_flag_details"]
    plugins = {fact["cli_flag"]: name for name, fact in facts()["plugin_config"].items()}
    build = {fact["cli_flag"]: fact for fact in facts()["build_config"].values()}
    for flag in facts()["trtllm_build_flags"]:
        if flag in details["aliases"]:
            continue
        aliases = [alias for alias, name in details["aliases"].items() if name == flag]
        if flag in details["plugin_flags"]:
            _add_plugin(parser, flag, facts()["plugin_config"][plugins[flag]])
        elif flag in details["switches"]:
            parser.add_argument(flag, action="store_true")
        else:
            fact = build.get(flag, {})
            default = details["defaults"].get(flag, fact.get("default"))
            whole = isinstance(default, int) or fact.get("type", "").startswith("int")
            parser.add_argument(
                *(flag, *aliases),
                type=_size if whole else str,
                nargs="+" if flag in details["lists"] else None,
                choices=LEVELS if flag == "--log_level" else details["choices"].get(flag),
                default="info" if flag == "--log_level" else default,
            )
    parser.set_defaults(speculative_decoding_mode=None)
    return parser


def _add_plugin(parser: argparse.ArgumentParser, flag: str, fact: Json) -> None:
    values, default = fact["values"], fact["default"]
    if not isinstance(values, list):
        parser.add_argument(flag, type=_size, default=default)
        return
    if True in values:
        choices, spelt = ["enable", "disable"], "enable" if default else "disable"
    else:
        choices, spelt = [*(v for v in values if v is not None), "disable"], default or "disable"
    parser.add_argument(flag, choices=choices, default=spelt)


def _size(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"not a size: {text!r}")
    return int(text)
