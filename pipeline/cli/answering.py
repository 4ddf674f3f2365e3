"""How a command answers: its console, and the exit code of what it raises."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.console import Console


@dataclass(frozen=True, slots=True)
class Mode:
    """How a command answers."""

    json: bool = False
    quiet: bool = False
    debug: bool = False


@contextmanager
def answering(mode: Mode) -> Iterator[Console]:
    """Give a command its console; turn what it raises into text and an exit code."""
    from pipeline.console import Console

    console = Console("json" if mode.json else "quiet" if mode.quiet else "human")
    try:
        yield console
    except PipelineError as error:
        if mode.debug:
            traceback.print_exc()
        console.error(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise typer.Exit(128 + signal.SIGINT) from None
    except BrokenPipeError:
        # The reader of stdout has left; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(128 + signal.SIGPIPE) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback unasked
        if mode.debug:
            traceback.print_exc()
        unexpected = PipelineError(
            f"unexpected {type(error).__name__}: {error}",
            hint="this is a fault of trtllm-pack: run again with `--debug` and report it",
        )
        console.error(unexpected)
        raise typer.Exit(unexpected.exit_code) from None
