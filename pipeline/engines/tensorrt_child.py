"""The child process that parses the graph and builds the engine: `python -m ... JOB.json`.

It runs with address-space randomisation off, because names inside an engine follow addresses. It
talks to its parent by JSON lines on stdout; the last one is the result or the error.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.engines.tensorrt_api import Flavour, load_api

ENGINE_NAME = "decoder.engine"
_ATTENTION_INPUT = "ATTENTION_INPUT"
_PR_SET_PDEATHSIG = 1


class BuildRefused(Exception):
    """The network is not what it must be; the message is for the user."""


def tell(**event: Any) -> None:
    """Write one event for the parent."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def main(job_path: str) -> None:
    """Carry out one job. Exit code 1 after an error event."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    job = json.loads(Path(job_path).read_bytes())
    versions = tuple((name, text) for name, text in job["versions"])
    trt = load_api(Flavour(job["is_rtx"], versions, tuple(job["modules"])))
    # A thread has a heap of its own, which begins at the same aligned address wherever Python and
    # TensorRT are installed; in the main one, the lengths of their paths shift what follows.
    with ThreadPoolExecutor(1) as pool:
        sys.exit(pool.submit(_carry_out, trt, job).result())


def _carry_out(trt: Any, job: dict[str, Any]) -> int:
    log = _logger(trt)
    try:
        result = build(trt, log, job)
    except BuildRefused as error:
        tell(event="error", message=str(error), log=log.lines[-20:])
        return 1
    tell(event="result", **result)
    return 0


def _logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.WARNING:
                self.lines.append(f"{severity.name.lower()}: {message}")

    return Log()


def _monitor(trt: Any) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Steps of the outermost phases; inner phases restart too often to mean anything."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, num_steps: int) -> None:
            if parent is None:
                tell(event="phase", name=phase, total=num_steps)

        def step_complete(self, phase: str, step: int) -> bool:
            tell(event="step", name=phase, step=step)
            return True

        def phase_finish(self, phase: str) -> None:
            pass

    return Monitor()


def build(trt: Any, log: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Parse, check, compile, write. Raises BuildRefused."""
    builder = trt.Builder(log)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(job["graph"]):
        errors = [parser.get_error(number).desc() for number in range(parser.num_errors)]
        raise BuildRefused("the ONNX parser refused the graph: " + "; ".join(errors))
    inventory = check_network(trt, network, job)
    config = builder.create_builder_config()
    config.progress_monitor = monitor = _monitor(trt)
    if job["is_rtx"]:
        config.num_compute_capabilities = len(job["targets"])
        for number, target in enumerate(job["targets"]):
            capability = getattr(trt.ComputeCapability, target.upper())
            config.set_compute_capability(capability, number)
    for profile in job["profiles"]:
        config.add_optimization_profile(_profile(builder, network, profile))
    engine = builder.build_serialized_network(network, config)
    del monitor
    if engine is None:
        raise BuildRefused("TensorRT did not build the network")
    with Path(ENGINE_NAME).open("wb") as stream:
        stream.write(engine)
    return inventory


def check_network(trt: Any, network: Any, job: dict[str, Any]) -> dict[str, Any]:
    """What the parser made must be the whole graph: inputs all used, attention all as asked."""
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    kinds = Counter(layer.type.name for layer in layers)
    sites, wanted = kinds[_ATTENTION_INPUT], job["attention_sites"]
    if sites != wanted:
        raise BuildRefused(f"the parser made {sites} attention layers of {wanted} in the graph")
    used = {
        tensor.name
        for layer in layers
        for tensor in (layer.get_input(number) for number in range(layer.num_inputs))
        if tensor is not None
    }
    inputs = {network.get_input(number).name for number in range(network.num_inputs)}
    if dropped := sorted(set(job["inputs"]) - (used & inputs)):
        raise BuildRefused(f"the parser dropped the inputs {', '.join(dropped)}")
    for layer in layers:
        if layer.type.name == _ATTENTION_INPUT:
            # How TensorRT's Python API casts a layer to its own interface.
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = job["decomposable"]
            if layer.attention.decomposable != job["decomposable"]:
                raise BuildRefused(f"`{layer.name}` does not take `decomposable`")
    return {"attention_layers": sites, "layers_by_kind": dict(sorted(kinds.items()))}


def _profile(builder: Any, network: Any, shapes: dict[str, list[list[int]]]) -> Any:
    """An optimisation profile: min, opt and max shape of every input."""
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        name = network.get_input(number).name
        profile.set_shape(name, *(tuple(shape) for shape in shapes[name]))
    return profile


if __name__ == "__main__":
    main(sys.argv[1])
