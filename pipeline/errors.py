"""What can go wrong, by who is at fault. Each kind has one exit code.

A message states what failed and the facts; the hint says what to do next. `PlanRefused` carries the
problems that a plan found, so that one run reports all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.wording import counted


class PipelineError(Exception):
    """Base of every error that a user is meant to read: a message, facts, and a hint."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, facts: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = tuple(facts)


class ToolFailed(PipelineError):
    """A program that we drive (a builder, an engine) failed although the plan was sound."""


class UsageError(PipelineError):
    """The command line does not make sense."""

    exit_code = 2


class RecipeError(PipelineError):
    """The recipe is wrong, or asks of this model what cannot be had."""

    exit_code = 3


class MachineError(PipelineError):
    """This machine lacks a tool, a GPU, a driver or a permission."""

    exit_code = 4


class RemoteError(PipelineError):
    """A remote host refused, failed, or could not be reached."""

    exit_code = 5


class VerificationError(PipelineError):
    """Something is not what it claims to be: a source file, an artifact, an engine, a release."""

    exit_code = 6


class ResourceError(PipelineError):
    """Out of disk or memory."""

    exit_code = 7


class LockedError(PipelineError):
    """Another process holds what this one needs."""

    exit_code = 8


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
