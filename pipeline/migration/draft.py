"""An engine's recipe while it is being made out of flags: values, and an answer for every flag."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pipeline.artifact import Json
from pipeline.migration.programs import Given, Invocation, tables_of
from pipeline.migration.rows import NOT_GIVEN, OPEN_VERDICTS, Row, Verdict

PLACEHOLDER = "${%s}: not in the script"
"""A text that no key of a recipe takes, so that a recipe with it cannot be run by mistake."""

_STRAY = "it belongs to no flag; a line goes on where a backslash is its very last character"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one flag. `shown`: as it was given; `line`: 0 where there are no lines.

    `place`: its number in the command. `key`, `value`: what is in the recipe because of it.
    """

    program: str
    line: int
    shown: str
    verdict: Verdict
    why: str
    key: str | None = None
    value: Json = None
    place: int = 0

    @property
    def is_open(self) -> bool:
        """Whether the recipe does not say what the flag asked for."""
        return self.verdict in OPEN_VERDICTS


@dataclass(frozen=True, slots=True)
class Unwritten:
    """A limit that the command left to TensorRT-LLM, and that the recipe states."""

    key: str
    was: str
    value: Json


@dataclass(slots=True)
class Draft:
    """One engine.

    `has_layout`: the commands say how the checkpoint was made. `facts`: flags that are weighed
    together, by their `~name`. `left`: lines that the recipe holds as comments, by section.
    """

    values: dict[str, Json] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    facts: dict[str, list[Given]] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    unwritten: list[Unwritten] = field(default_factory=list)
    has_layout: bool = False

    def take(self, invocation: Invocation) -> None:
        """Give every flag of a command its place: a value, a fact to weigh, or an answer."""
        last = {each.name: each for each in invocation.given}
        for given in invocation.given:
            if last[given.name] is not given:
                if last[given.name].values != given.values:
                    why = "it is given again later, which counts"
                    self.answer(given, "contradictory", why)
            elif given.row is None:
                self._unknown_flag(invocation, given)
            else:
                self._take_flag(given, given.row)
        for word in invocation.stray:
            self._stray(invocation, word.text, word.unknown)

    def answer(
        self,
        given: Given,
        verdict: Verdict,
        why: str,
        key: str | None = None,
        value: Json = None,
    ) -> None:
        """Say what became of a flag; with a key, also set it."""
        if key is not None:
            self.set(key, value, "" if verdict == "kept" else given.shown)
        self.answers.append(
            Answer(given.program, given.line, given.shown, verdict, why, key, value, given.place)
        )

    def set(self, key: str, value: Json, note: str = "") -> None:
        """Set a key of the recipe, with the comment behind it."""
        self.values[key] = value
        self.notes[key] = note

    def weigh(self, name: str) -> Given | None:
        """A flag of this `~name`, to be answered. Of several spellings the last one counts."""
        *others, last = self.facts.pop(name, [None])
        for given in others:
            assert given is not None
            self.answer(given, "contradictory", "another flag that means the same counts")
        return last

    def drop(self, key: str, verdict: Verdict, why: str) -> None:
        """Take back a key that a flag has set, and change the answer."""
        self.values.pop(key, None)
        self.notes.pop(key, None)
        for place, answer in enumerate(self.answers):
            if answer.key == key:
                self.answers[place] = replace(
                    answer, verdict=verdict, why=why, key=None, value=None
                )

    def change(self, key: str, value: Json, verdict: Verdict, why: str) -> None:
        """Give a key that a flag has set another value, and change the answer."""
        self.values[key] = value
        for place, answer in enumerate(self.answers):
            if answer.key == key:
                self.notes[key] = answer.shown
                self.answers[place] = replace(answer, verdict=verdict, why=why, value=value)

    def _take_flag(self, given: Given, row: Row) -> None:
        if row.key is not None and row.takes in ("one", "several") and not given.values:
            self.answer(given, "not known", "no value follows it")
        elif row.key is not None and row.key.startswith("~"):
            self.facts.setdefault(row.key, []).append(given)
        elif row.key is None:
            self.answer(given, row.verdict, row.why)
        elif given.unknown:
            self.not_known(given, row.key)
        else:
            value = translate(given, row)
            if value == NOT_GIVEN:
                self.answer(given, "now the default", row.why)
            else:
                self.answer(given, row.verdict, row.why, row.key, value)

    def not_known(self, given: Given, key: str) -> None:
        """A flag whose value the script does not say: the key is there, and must be filled in."""
        names = ", ".join(f"`{part}`" for part in dict.fromkeys(given.unknown))
        why = f"the script does not say what {names} is" if names else "its value is no number"
        self.answer(given, "not known", why)
        self.set(key, PLACEHOLDER % "".join(given.unknown[:1]).strip("${}"), given.shown)

    def _unknown_flag(self, invocation: Invocation, given: Given) -> None:
        known = [flag for table in tables_of(invocation.kind) for flag in table]
        nearest = difflib.get_close_matches(given.name, known, n=1, cutoff=0.8)
        if invocation.kind == "run":
            self.answer(given, "at run time", "it is no property of the engine")
        else:
            hint = f"; did you mean `--{nearest[0]}`?" if nearest else ""
            self.answer(given, "unknown flag", f"`{invocation.script}` has no such flag{hint}")

    def _stray(self, invocation: Invocation, text: str, unknown: Sequence[str]) -> None:
        """An argument that is no flag: it may hold flags where the script does not say what."""
        given = Given(invocation.script, text, text, None, (), invocation.command.line)
        if unknown:
            self.answer(given, "not known", "the script does not say which flags it stands for")
        elif invocation.kind != "run":
            self.answer(given, "unknown flag", _STRAY)


def translate(given: Given, row: Row) -> Json:
    """The value of a flag as a recipe has it."""
    if not given.values:
        return row.unset if row.unset is not None else True
    if row.takes == "several":
        return [value.text for value in given.values]
    text = given.values[0].text
    named = row.values or {}
    if text in named:
        return named[text]
    lower = text.lower()
    if lower in named:
        return named[lower]
    return int(text) if re.fullmatch(r"-?[0-9]{1,15}", text) else text


def number_of(given: Given) -> int | None:
    """The whole number that a flag gives; None where it gives none."""
    value = None if given.row is None else translate(given, given.row)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
