"""`docs/rules.md`, made of the table of rules."""

from __future__ import annotations

import re

from pipeline.answers.explanation_text import EFFECTS
from pipeline.trtllm.rules import SURENESS, Rule
from pipeline.trtllm.table import GROUPS, RULES

HEAD = """\
# Rules of TensorRT-LLM 1.2

What `trtllm-pack` holds a recipe against before it builds with the backend `trtllm`: options,
limits and plugins against each other, the model and the GPU. This page is made of the table in
`pipeline/trtllm/`, by `TRTLLM_PACK_STORE_EXPECTED=1 .venv/bin/python -m pytest
tests/trtllm/test_rules_document.py`; `trtllm-pack explain RULE` shows one with its condition.

| effect | means |
| --- | --- |
"""

SURE = """
| how sure | means |
| --- | --- |
"""


def rules_document() -> str:
    """The page as it should be."""
    parts = [HEAD]
    parts += [f"| {effect} | {means} |\n" for effect, means in EFFECTS.items()]
    parts.append(SURE)
    parts += [f"| {sure} | {means} |\n" for sure, means in SURENESS.items()]
    parts.append(f"\n{len(RULES)} rules.\n")
    for heading, rules in GROUPS.items():
        parts.append(f"\n## {heading[0].upper()}{heading[1:]}\n\n")
        parts.append("| rule | effect | what is wrong | what to do | source, how sure |\n")
        parts.append("| --- | --- | --- | --- | --- |\n")
        parts += map(_row, rules)
    return "".join(parts)


def _row(rule: Rule) -> str:
    cells = (rule.effect, _plain(rule.says), _plain(rule.fix), f"{rule.source}, {rule.sure}")
    return f"| `{rule.name}` | {' | '.join(cells)} |\n"


def _plain(text: str) -> str:
    """A format with its names in brackets, and no bar that would end a cell."""
    doubled = text.replace("{{", "\0").replace("}}", "\1").replace("|", "/")
    named = re.sub(r"\{(?:model\[)?(\w+)\]?\}", r"[\1]", doubled)
    return named.replace("\0", "{").replace("\1", "}")
