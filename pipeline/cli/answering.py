"""How a command answers: its console, and the exit code of whatever comes out of it."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from pipeline.errors import PipelineError, UsageError
from pipeline.protected_streams import lead_nowhere
from pipeline.redaction import redact
from pipeline.system.interrupts import Stopped, check, signal_of, tell_stopped
from pipeline.system.refusals import explain

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
        check()
        yield console
    except (typer.Exit, typer.Abort):
        raise
    except (Stopped, KeyboardInterrupt) as stopped:
        number = signal_of(stopped) or signal.SIGINT
        tell_stopped(number, as_json=mode.json)
        raise typer.Exit(128 + number) from None
    except BrokenPipeError:
        lead_nowhere(1)  # the reader of stdout has left; there is nobody to tell
        raise typer.Exit(128 + signal.SIGPIPE) from None
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback unasked
        if mode.debug:
            _say(traceback.format_exc())
        stopped_by = signal_of(error)
        if stopped_by is not None:
            tell_stopped(stopped_by, as_json=mode.json)
            raise typer.Exit(128 + stopped_by) from None
        known = as_pipeline_error(error, "this command")
        console.error(known)
        raise typer.Exit(known.exit_code) from None


@contextmanager
def ending_in_words(arguments: list[str]) -> Iterator[None]:
    """The same for what happens outside of a command: its options, `--help`, its last write.

    `arguments` are those of the command line: a mistake in them is answered in JSON where they ask
    for that.
    """
    try:
        yield
        sys.stdout.flush()
    except SystemExit as end:
        number = signal_of(end)
        if number is not None:  # it came before the command, or after
            tell_stopped(number, as_json="--json" in arguments)
        elif end.code == UsageError.exit_code and "--json" in arguments:
            _answer_usage(end.__context__)
        _last_flush(end)
        raise
    except KeyboardInterrupt:
        tell_stopped(signal.SIGINT, as_json="--json" in arguments)
        raise SystemExit(128 + signal.SIGINT) from None
    except BrokenPipeError:
        lead_nowhere(1)
        raise SystemExit(128 + signal.SIGPIPE) from None
    except Exception as error:  # noqa: BLE001 - as above
        number = signal_of(error)
        if number is None:
            raise SystemExit(_tell_outside(error)) from None
        tell_stopped(number, as_json="--json" in arguments)
        raise SystemExit(128 + number) from None


def as_pipeline_error(error: Exception, doing: str) -> PipelineError:
    """The error to show: itself, what the system refused, or a fault of ours."""
    if isinstance(error, PipelineError):
        return error
    return explain(error, doing) or PipelineError(
        f"unexpected {type(error).__name__}: {error}",
        hint="this is a fault of trtllm-pack: run again with `--debug` and report it",
    )


def _answer_usage(error: BaseException | None) -> None:
    """The document of a command line that makes no sense; its text is on stderr already.

    A command that found so itself has answered.
    """
    from pipeline.console import Console

    if getattr(sys.stdout, "is_used", False):
        return
    told = getattr(error, "format_message", None)
    message = told() if told is not None else "the command line makes no sense"
    with suppress(PipelineError, OSError):
        Console("json").error(UsageError(message, hint="see `trtllm-pack --help`"))


def _last_flush(end: SystemExit) -> None:
    """What is left in stdout's buffer; a failure counts where all else went well."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        lead_nowhere(1)
    except OSError as error:
        code = _tell_outside(error)
        if not end.code:
            raise SystemExit(code) from None


def _tell_outside(error: Exception) -> int:
    from pipeline.console import render_error

    if isinstance(error, OSError):
        lead_nowhere(1)  # most likely stdout itself; nothing more is written to it
    known = as_pipeline_error(error, "trtllm-pack")
    _say(render_error(known))
    return known.exit_code


def _say(text: str) -> None:
    """On stderr, as far as that takes it."""
    with suppress(OSError, ValueError):
        sys.stderr.write(redact(text).rstrip("\n") + "\n")
        sys.stderr.flush()
