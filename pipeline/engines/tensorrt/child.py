"""The child process that parses the graph and builds the engine: `python -m ... JOB.json`.

It talks to its parent by JSON lines on stdout (see `child_process`); the last one is the result or
the error. It writes `decoder.engine` in its working folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pipeline.engines.child_setup import (
    as_told,
    die_with,
    fix_surroundings,
    in_own_heap,
    tell,
    tell_error,
)
from pipeline.engines.tensorrt.api import Flavour, create_network, load_api, write_engine
from pipeline.engines.tensorrt.config import builder_config
from pipeline.engines.tensorrt.network import check_network
from pipeline.errors import PipelineError, ResourceError, ToolFailed

ENGINE_NAME = "decoder.engine"

_WHO = "building the engine"

_HARMLESS = ("has Int64 binding",)
"""Parser warnings that state what is so: token ids and positions are int64."""


def main(job_path: str) -> int:
    """Carry out one job; exit code 1 after an error event."""
    job = json.loads(Path(job_path).read_bytes())
    die_with(job["parent"])
    fix_surroundings()
    flavour = Flavour(job["is_rtx"], (), tuple(job["modules"]))
    try:
        trt = load_api(flavour)
        log, monitor = _log(trt), _monitor(trt)
        return in_own_heap(lambda: _carry_out(trt, flavour, log, monitor, job))
    except Exception as error:  # noqa: BLE001 - a library or thread that does not fit, for one
        tell_error(as_told(error, _WHO))
        return 1


def _carry_out(trt: Any, flavour: Flavour, log: Any, monitor: Any, job: dict[str, Any]) -> int:
    try:
        result = build(trt, flavour, log, monitor, job)
    except Exception as error:  # noqa: BLE001 - it would end as a traceback on stderr
        tell_error(as_told(error, _WHO), log.lines)
        return 1
    tell(event="result", **result, warnings=log.lines)
    return 0


def build(
    trt: Any, flavour: Flavour, log: Any, monitor: Any, job: dict[str, Any]
) -> dict[str, Any]:
    """Parse, check, compile, write; the inventory of the network.

    Raises ToolFailed, ResourceError where TensorRT lacks memory, OSError where the engine cannot be
    written.
    """
    builder = trt.Builder(log)
    network = create_network(trt, builder)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(job["graph"]) or parser.num_errors:
        raise ToolFailed(
            "TensorRT's ONNX parser refuses the decoder graph",
            facts=[parser.get_error(number).desc() for number in range(parser.num_errors)],
        )
    inventory = check_network(trt, network, job)
    config = builder_config(trt, flavour, builder, network, monitor, job)
    if not write_engine(trt, builder, network, config, Path(ENGINE_NAME)):
        raise _refused(log.lines)
    return inventory


def _refused(lines: list[str]) -> PipelineError:
    """What the builder's silence means, by what it logged."""
    text = " ".join(lines)
    if "not supported by a dedicated kernel" in text:
        return ToolFailed(
            "TensorRT has no fused attention kernel for this network",
            hint="see `trtllm-pack plan`, or ask for unfused attention: "
            "`engine.attention: {context_fmha: false, require_fused: false}`",
        )
    if "graph_jit.cpp" in text:
        return ToolFailed(
            "TensorRT compiles a part of this network by CUDA, which needs a driver",
            hint="build on a machine with an NVIDIA GPU, or remove `engine.tensorrt.strip_weights`",
        )
    if "out of memory" in text.lower() or "OutOfMemory" in text:
        return ResourceError(
            "TensorRT ran out of memory", hint="build on a machine with more memory"
        )
    return ToolFailed("TensorRT did not build the network")


def _log(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps warnings and errors; the builder's chatter below is dropped."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            harmless = any(part in message for part in _HARMLESS)
            if severity <= trt.ILogger.Severity.WARNING and not harmless:
                self.lines.append(f"{severity.name.lower()}: {message}")

    return Log()


def _monitor(trt: Any) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Steps of the outermost phases; inner phases restart too often to mean anything."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outermost: set[str] = set()

        def phase_start(self, phase: str, parent: str | None, num_steps: int) -> None:
            if parent is None:
                self.outermost.add(phase)
                tell(event="phase", name=phase, total=num_steps)

        def step_complete(self, phase: str, step: int) -> bool:
            if phase in self.outermost:
                tell(event="step", name=phase, step=step)
            return True

        def phase_finish(self, phase: str) -> None:
            self.outermost.discard(phase)

    return Monitor()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
