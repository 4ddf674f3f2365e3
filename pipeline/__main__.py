"""Entry point of the command `trtllm-pack`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until it is taken over below: Python's own handler shows a traceback of half an import.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
import sys
from typing import NoReturn

from pipeline.system import interrupts

_NO_MEMORY = b"""error: trtllm-pack ran out of memory

hint: use a machine with more memory, or raise the limit (`ulimit -v`, the container's)
"""
_NO_MEMORY_CODE = 7


def main() -> None:
    """Load the command line and run it; what hinders even that is told as well."""
    interrupts.install()
    try:
        from pipeline.cli import main as run_command_line

        run_command_line()
    except interrupts.Stopped as stopped:
        interrupts.tell_stopped(stopped.number, as_json="--json" in sys.argv)
        raise
    except MemoryError:
        os.write(2, _NO_MEMORY)  # nothing that could need more
        sys.exit(_NO_MEMORY_CODE)
    except Exception as error:  # noqa: BLE001 - what is not known is raised again
        number = interrupts.signal_of(error)
        if number is None:
            _refuse(error)
        interrupts.tell_stopped(number, as_json="--json" in sys.argv)
        sys.exit(128 + number)


def _refuse(error: Exception) -> NoReturn:
    """The interpreter cannot load the command line: too few files may be open, or one is broken."""
    from pipeline.system.refusals import explain

    known = explain(error, "loading trtllm-pack")
    if known is None:
        raise error
    lines = [f"error: {known.message}", *(f"  {fact}" for fact in known.facts)]
    sys.stderr.write("\n".join([*lines, "", f"hint: {known.hint}", ""]))
    sys.exit(known.exit_code)


if __name__ == "__main__":
    main()
