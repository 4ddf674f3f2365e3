"""What people and machines see: data on stdout; progress, errors and hints on stderr.

Human mode writes text; JSON mode writes one JSON document on stdout and one event a line on stderr.
Colour never carries meaning alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Literal

from pipeline.artifact import Json
from pipeline.errors import MachineError, PipelineError, PlanRefused, Problem, hint_of
from pipeline.progress_display import EventLines, Observing, PlainLines, TerminalBars, Told
from pipeline.protected_streams import lead_nowhere
from pipeline.redaction import redact, redact_value
from pipeline.system.refusals import explain

Mode = Literal["human", "json", "quiet"]


def printable(text: str) -> str:
    """The text with control characters made visible: a model may not drive a terminal."""
    return "".join(c if c == "\n" or c.isprintable() else "\ufffd" for c in text)


class Console:
    """The two streams of one command. In JSON mode there is one document, whatever happens."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self._has_answered = False

    def result(self, document: Json, text: str) -> None:
        """The command's answer: `document` for machines, `text` for people.

        Raises ResourceError or MachineError where stdout does not take it, BrokenPipeError where
        its reader has left.
        """
        self._has_answered = True
        self._answer(rendered_json(document) if self.mode == "json" else redact(text))

    def error(self, error: PipelineError) -> None:
        """What failed, the facts, and the hint; in JSON mode the document of a failed command."""
        if self.mode == "json" and not self._has_answered:
            try:
                self.result({"error": error_document(error)}, "")
            except PipelineError as lost:
                self._say(render_error(lost))
            else:
                return
        self._say(render_error(error))

    def note(self, text: str) -> None:
        """A line worth reading beside the answer: what was decided, where it might surprise."""
        if self.mode == "json":
            self._say(json.dumps({"event": "note", "message": text}, ensure_ascii=False))
        elif self.mode == "human":
            self._say(f"note: {text}")

    @contextmanager
    def watching(self) -> Iterator[Observing]:
        """A watcher of a run, fit for this stream; whatever it shows is taken away at the end."""
        told: Told
        if self.mode == "json":
            told = EventLines(self._say)
        elif self.mode == "human" and sys.stderr.isatty():
            told = TerminalBars()
        else:
            told = PlainLines(self._say, quiet=self.mode == "quiet")
        try:
            yield Observing(told)
        finally:
            told.close()

    def _answer(self, text: str) -> None:
        try:
            sys.stdout.write(text.rstrip("\n") + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            lead_nowhere(1)
            known = explain(error, "stdout")
            raise (type(known) if known else MachineError)(
                f"the answer cannot be written to stdout: {error.strerror}",
                facts=known.facts if known else (),
                hint="send it to a file on a disk with room, or to a program that reads it",
            ) from None

    def _say(self, text: str) -> None:
        """On stderr. Where that cannot be written the work goes on: the exit code tells."""
        with suppress(OSError, ValueError):
            sys.stderr.write(redact(text) + "\n")
            sys.stderr.flush()


def rendered_json(document: Json) -> str:
    """A document as text: no secrets, and nothing that stdout's encoding lacks."""
    is_ascii = not (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(redact_value(document), indent=2, sort_keys=True, ensure_ascii=is_ascii)


def render_error(error: PipelineError) -> str:
    """An error for people."""
    lines = [f"error: {error.message}"]
    if isinstance(error, PlanRefused):
        for problem in error.problems:
            lines += ["", *render_problem(problem)]
    lines += [_indent(fact) for fact in error.facts]
    if hint := hint_of(type(error), error.hint):
        lines += ["", f"hint: {hint}"]
    return "\n".join(lines)


def render_problem(problem: Problem) -> list[str]:
    """A problem for people: its stage, what is wrong, the facts, the hint."""
    lines = [f"  {problem.stage}: {problem.message}"]
    lines += ["  " + _indent(fact) for fact in problem.facts]
    if hint := hint_of(problem.kind, problem.hint):
        lines.append(f"    hint: {hint}")
    return lines


def error_document(error: PipelineError) -> dict[str, Json]:
    """An error for machines."""
    document: dict[str, Json] = {
        "kind": type(error).__name__,
        "exit_code": error.exit_code,
        "message": error.message,
        "facts": list(error.facts),
        "hint": hint_of(type(error), error.hint),
    }
    if isinstance(error, PlanRefused):
        document["problems"] = [problem_document(problem) for problem in error.problems]
    return document


def problem_document(problem: Problem) -> dict[str, Json]:
    """A problem for machines."""
    return {
        "stage": problem.stage,
        "kind": problem.kind.__name__,
        "message": problem.message,
        "facts": list(problem.facts),
        "hint": hint_of(problem.kind, problem.hint),
    }


def format_bytes(count: int) -> str:
    """A size for people, in powers of 1000 as disks are sold and quoted."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def table(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Columns aligned by spaces; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(indent + line for line in lines)


def fields(pairs: Mapping[str, str], indent: str = "  ") -> str:
    """Names and values, one a line, values aligned."""
    width = max(map(len, pairs))
    return "\n".join(f"{indent}{name.ljust(width)}  {value}" for name, value in pairs.items())


def _indent(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())
