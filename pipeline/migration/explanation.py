"""What a migration says about itself: for people, and as a JSON document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pipeline.artifact import Json
from pipeline.migration.draft import Answer, Unwritten
from pipeline.migration.migrate import Migration
from pipeline.migration.recipe_text import one_line, scalar

_NAMED = re.compile(r"\$\{?[A-Za-z_]")
_WIDTH = 44
_SHORT = frozenset({"now the default", "decided", "no effect", "at run time"})
"""Verdicts that are listed in one line where a JSON, which says everything, has many of them."""


def explain(migration: Migration) -> str:
    """Every flag with what became of it, then what else there is to know."""
    lines: list[str] = []
    for (label, answers), (_, unwritten) in zip(
        migration.answers, migration.unwritten, strict=True
    ):
        lines += [f"variant {label}:"] if label else []
        lines += _answers(answers)
        lines += _unwritten(unwritten)
    if migration.others:
        lines += ["", "other commands, which a recipe does not have:"]
        lines += [f"  {one_line(other)}" for other in migration.others]
    if migration.refusals:
        lines += ["", "the recipe does not load as it is:"]
        lines += [f"  {line}" for fact in migration.refusals for line in fact.split("\n")]
    count = len(migration.open_answers)
    if count:
        told = "1 flag is" if count == 1 else f"{count} flags are"
        lines += ["", f"{told} not in the recipe: see the marks `!`"]
    if any(
        answer.verdict == "not known" and _NAMED.search(answer.why)
        for answer in migration.open_answers
    ):
        lines.append("hint: give variables of the script with `--var NAME=VALUE`")
    return "\n".join(lines)


def _answers(answers: Sequence[Answer]) -> Iterator[str]:
    place: tuple[str, int] | None = None
    short: dict[str, list[str]] = {}
    for answer in answers:
        if not answer.line and answer.verdict in _SHORT:
            short.setdefault(answer.verdict, []).append(answer.shown.split(" ")[0])
            continue
        if (answer.program, answer.line) != place:
            place = (answer.program, answer.line)
            yield f"{answer.program}, line {answer.line}" if answer.line else answer.program
        yield _row(answer)
    for verdict, names in short.items():
        yield f"  {verdict}: {', '.join(names)}"


def _row(answer: Answer) -> str:
    became = f" -> {answer.key}: {scalar(answer.value)}" if answer.key else ""
    why = f" ({answer.why})" if answer.why else ""
    mark = "!" if answer.is_open else " "
    shown = one_line(answer.shown)
    return f"{mark} {shown:<{_WIDTH}} {answer.verdict}{became}{why}"


def _unwritten(unwritten: Sequence[Unwritten]) -> Iterator[str]:
    if unwritten:
        yield "not given, and now stated"
    for each in unwritten:
        ours = "worked out from the other limits" if each.value is None else scalar(each.value)
        yield f"  {each.key:<{_WIDTH}} {ours} (before: {each.was})"


def document(migration: Migration) -> dict[str, Json]:
    """The same for machines, with the recipe's text."""
    return {
        "recipe": migration.recipe,
        "whole": migration.is_whole,
        "engines": [
            {
                "variant": label or None,
                "flags": [_flag(answer) for answer in answers],
                "not_given": [
                    {"key": each.key, "value": each.value, "was": each.was} for each in unwritten
                ],
            }
            for (label, answers), (_, unwritten) in zip(
                migration.answers, migration.unwritten, strict=True
            )
        ],
        "other_commands": list(migration.others),
        "refusals": list(migration.refusals),
    }


def _flag(answer: Answer) -> dict[str, Json]:
    return {
        "program": answer.program,
        "line": answer.line or None,
        "flag": answer.shown,
        "verdict": answer.verdict,
        "why": answer.why,
        "key": answer.key,
        "value": answer.value,
        "open": answer.is_open,
    }
