"""The options of the commands that make and run a plan, in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.cli.answering import Mode
from pipeline.cli.options import (
    DebugOpt,
    ExplainOpt,
    FrozenOpt,
    JsonOpt,
    LockTimeoutOpt,
    MaxMemoryOpt,
    OfflineOpt,
    OutOpt,
    QuietOpt,
    RecipeArg,
    SetOpt,
    SharedOpt,
    StoreLimitOpt,
    StoreOpt,
    VariantOpt,
)


@dataclass(frozen=True, slots=True)
class StageOptions:
    """What a command line says, in the order of `--help`; the defaults of what it leaves out."""

    recipe: RecipeArg
    overrides: SetOpt = None
    variant: VariantOpt = None
    store: StoreOpt = None
    shared: SharedOpt = None
    store_limit: StoreLimitOpt = None
    out: OutOpt = None
    explain: ExplainOpt = None
    offline: OfflineOpt = False
    frozen: FrozenOpt = False
    lock_timeout: LockTimeoutOpt = 3600.0
    max_memory: MaxMemoryOpt = None
    as_json: JsonOpt = False
    quiet: QuietOpt = False
    debug: DebugOpt = False

    @property
    def mode(self) -> Mode:
        """How the command answers."""
        return Mode(self.as_json, self.quiet, self.debug)


def taking_options(
    carry_out: Callable[[StageOptions], None], *, but: tuple[str, ...] = ()
) -> Callable[..., None]:
    """A command for Typer, with every option of `StageOptions` `but` those that it has not.

    Typer reads a command's options from its signature, so it is given that of the dataclass.
    """

    def command(**given: Any) -> None:
        carry_out(StageOptions(**given))

    signature = inspect.signature(StageOptions, eval_str=True)
    kept = [option for name, option in signature.parameters.items() if name not in but]
    command.__signature__ = signature.replace(parameters=kept, return_annotation=None)  # type: ignore[attr-defined]
    return command
