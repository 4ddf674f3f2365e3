"""What can go wrong, by who is at fault. Each kind has one exit code.

A message states what failed and the facts; the hint says what to do next. `PlanRefused` carries the
problems that a plan found, so that one run reports all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from pipeline.wording import counted


class PipelineError(Exception):
    """Base of every error that a user is meant to read: a message, facts, and a hint."""

    exit_code = 1
    usual_hint: ClassVar[str | None] = None
    """What to do about most errors of a kind: told where an error has no hint of its own."""

    def __init__(self, message: str, *, hint: str | None = None, facts: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = tuple(facts)


class ToolFailed(PipelineError):
    """A program that we drive (a builder, an engine) failed although the plan was sound."""

    usual_hint = "if it fails again, report it with what `trtllm-pack doctor --json` says"


class UsageError(PipelineError):
    """The command line does not make sense."""

    exit_code = 2
    usual_hint = "`trtllm-pack COMMAND --help` says what a command takes"


class RecipeError(PipelineError):
    """The recipe is wrong, or asks of this model what cannot be had."""

    exit_code = 3
    usual_hint = "docs/recipe.md explains every key; `trtllm-pack recipes check` finds mistakes"


class MachineError(PipelineError):
    """This machine lacks a tool, a GPU, a driver or a permission."""

    exit_code = 4
    usual_hint = "`trtllm-pack doctor` says what this machine has and lacks"


class RemoteError(PipelineError):
    """A remote host refused, failed, or could not be reached."""

    exit_code = 5
    usual_hint = "run again later: what was fetched is kept"


class VerificationError(PipelineError):
    """Something is not what it claims to be: a source file, an artifact, an engine, a release."""

    exit_code = 6
    usual_hint = "fetch or make it again; `trtllm-pack cache verify` finds damage in a store"


class ResourceError(PipelineError):
    """Out of disk or memory."""

    exit_code = 7
    usual_hint = "free some, or use a machine with more; earlier artifacts are kept"


class LockedError(PipelineError):
    """Another process holds what this one needs."""

    exit_code = 8
    usual_hint = "wait until it has ended, and run again"


def hint_of(kind: type[PipelineError], hint: str | None) -> str | None:
    """What to do about an error or a problem of a kind; an empty hint: each fact has its own."""
    return kind.usual_hint if hint is None else hint or None


@contextmanager
def advising(kind: type[PipelineError], hint: str) -> Iterator[None]:
    """Give errors of a kind that have no hint of their own this one: more is known here."""
    try:
        yield
    except kind as error:
        error.hint = hint if error.hint is None else error.hint
        raise


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a stage cannot do its work, found before any work is done."""

    stage: str
    message: str
    hint: str | None = None
    kind: type[PipelineError] = RecipeError
    facts: tuple[str, ...] = ()

    @classmethod
    def of(cls, stage: str, error: PipelineError) -> Problem:
        """The problem that an error states, raised while the plan was being made."""
        return cls(stage, error.message, error.hint, type(error), error.facts)


class PlanRefused(PipelineError):
    """The plan has problems in stages that this command would run."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"the plan has {counted(len(problems), 'problem')}")
        self.problems = tuple(problems)
        codes = {problem.kind.exit_code for problem in problems}
        # One kind of fault keeps its own code; a mixture is the recipe's, which can avoid them all.
        self.exit_code = codes.pop() if len(codes) == 1 else RecipeError.exit_code
