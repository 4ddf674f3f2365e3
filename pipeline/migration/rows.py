"""What a row of the tables says: a flag of an old program, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal[
    "kept",
    "renamed",
    "now the default",
    "gone",
    "decided",
    "at run time",
    "no effect",
    "contradictory",
    "not in this version",
    "not known",
    "unknown flag",
]
"""`kept`, `renamed`: it is in the recipe, under the same or another name. `now the default`: what
it asks for is so without it. `gone`: TensorRT-LLM 1.2 has it no more. `decided`: by TensorRT-LLM or
this project. `at run time`: it is no property of the engine. `no effect`: nor had it one before.
`contradictory`: it is at odds with another flag. The last three leave the recipe unequal to what
the command asked for: this version cannot do it; its value is not in the script; nobody knows it.
"""

OPEN_VERDICTS: frozenset[Verdict] = frozenset({"not in this version", "not known", "unknown flag"})

Takes = Literal["nothing", "one", "perhaps one", "several"]
"""Values behind a flag. `perhaps one`: one where the next word is no flag."""


@dataclass(frozen=True, slots=True)
class Row:
    """One flag of a program.

    `flags`: its spellings without leading dashes, other dashes as `_`. `key`: the recipe key that
    it becomes, or `~name`, a fact that `settle` weighs together with others. `values`: what its
    values are called in a recipe; others are taken as they are. `unset`: the value that it has
    where none follows.
    """

    flags: tuple[str, ...]
    takes: Takes
    verdict: Verdict
    key: str | None
    why: str
    values: Mapping[str, str | bool | int | None] | None = None
    unset: str | bool | None = None


ON_OFF: Mapping[str, str | bool | int | None] = {
    "enable": True,
    "disable": False,
    "true": True,
    "false": False,
    "1": True,
    "0": False,
}
"""Switches as releases and people write them."""

NOT_GIVEN = ""
"""As a translated value: the same as without the flag."""

Table = Mapping[str, Row]
"""Rows by every spelling."""


def table(rows: Sequence[Row]) -> Table:
    """Rows by spelling; no spelling may be given twice."""
    found: dict[str, Row] = {}
    for row in rows:
        for flag in row.flags:
            assert flag not in found, flag
            found[flag] = row
    return found


def spelling(flag: str) -> str:
    """`--ckpt-type` as the tables spell it: `ckpt_type`."""
    return flag.lstrip("-").replace("-", "_")


def same_answer(
    flags: str, takes: Takes, verdict: Verdict, why: str, key: str | None = None
) -> list[Row]:
    """A row for each of several flags, given with blanks between them, that have one answer."""
    return [Row((flag,), takes, verdict, key, why) for flag in flags.split()]
