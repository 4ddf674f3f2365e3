"""The backend `onnxruntime`: the decoder graph on the CPU in float32, or on an NVIDIA GPU.

On the CPU it runs on every machine, which makes every recipe executable, and is the numeric check
of the backends that compile the same graph for a GPU. With `device: cuda` the graph is computed in
the checkpoint's dtype, by the kernels that ONNX Runtime's CUDA provider chooses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifact import Json, write_json
from pipeline.checkpoint.safetensors_file import read_header
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.attention_proof import write_proof
from pipeline.engines.engine import CONFIG_NAME, Engine, Estimate, TargetSupport
from pipeline.engines.generation import Session
from pipeline.engines.generator import Generator, SessionGenerator
from pipeline.engines.long_rotary import PlacedSession, with_long_rotary
from pipeline.engines.onnxruntime import devices
from pipeline.engines.onnxruntime.proof import cpu_proof, cuda_proof
from pipeline.errors import MachineError, Problem, VerificationError
from pipeline.graph.config import graph_problems
from pipeline.hardware import Hardware, detect
from pipeline.installed import installed
from pipeline.onnx_files.external import sizes_beside
from pipeline.onnx_files.reading import read_model
from pipeline.onnx_files.record import graph_record
from pipeline.placement.placing import place
from pipeline.progress import Progress
from pipeline.recipe.schema import EngineSettings

if TYPE_CHECKING:
    from pipeline.engines.onnxruntime.cpu_session import CpuSession
    from pipeline.engines.onnxruntime.cuda_session import CudaSession
    from pipeline.graph.facts import GraphFacts

GRAPH_NAME = "decoder.onnx"
_NOT_RECORDED = frozenset({"Range", "Shape"})
"""Operators that run on the CPU: a step that has them cannot be recorded as a CUDA graph."""


class OnnxRuntimeEngine:
    """See `pipeline.engines.engine.Engine`."""

    name = "onnxruntime"
    applies_windows = True

    def why_unavailable(self, hardware: Hardware) -> str | None:
        """The missing packages, or None."""
        absent = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
        return f"not installed: {', '.join(f'`{name}`' for name in absent)}" if absent else None

    def problems(
        self, config: Mapping[str, Json], settings: EngineSettings, hardware: Hardware
    ) -> list[Problem]:
        """What the graph cannot express, and what the device lacks.

        Host memory is the plan's to compare with `estimate`.
        """
        found = graph_problems(config, settings.max_seq_len)
        return found + devices.device_problems(config, settings, hardware)

    def tool_versions(self) -> dict[str, str]:
        """onnx writes the graph, ONNX Runtime proves and executes it."""
        found = installed(["onnx"])
        runtime = devices.installed_runtime()
        return found if runtime is None else {**found, runtime[0]: runtime[1]}

    def attention_support(
        self, config: Mapping[str, Json], settings: EngineSettings
    ) -> list[TargetSupport]:
        """One answer, for the device: the recipe's GPU targets do not concern this backend."""
        return devices.attention_support(config, settings)

    def notes(self, config: Mapping[str, Json], settings: EngineSettings) -> list[str]:
        """What a GPU must hold."""
        return devices.device_notes(config, settings)

    def estimate(
        self, config: Mapping[str, Json], settings: EngineSettings, weight_bytes: int
    ) -> Estimate:
        """Host memory and disk of a build."""
        return devices.estimate(config, settings, weight_bytes)

    def memory_report(
        self, config: Mapping[str, Json], settings: EngineSettings
    ) -> dict[str, Json] | None:
        """Not known."""
        return None

    def build(
        self,
        checkpoint: TrtllmCheckpoint,
        settings: EngineSettings,
        out_dir: Path,
        progress: Progress,
        *,
        cache_dir: Path | None = None,
    ) -> dict[str, Json]:
        """Write the graph, place the rank files beside it, and prove its attention by a run."""
        from pipeline.graph.decoder import write_decoder

        progress.start("graph", 3, "steps")
        facts = write_decoder(
            checkpoint,
            out_dir / GRAPH_NAME,
            max_seq_len=settings.max_seq_len,
            compute_dtype=devices.compute_dtype(checkpoint.config, settings),
            form="mask" if settings.device == "cpu" else "lengths",
            fixed_cache=settings.device != "cpu",
            cache_order="heads" if settings.device == "cpu" else "tokens",
            flat_linear=settings.device == "cpu",
            dialect="onnxruntime" if settings.device == "cpu" else "onnxruntime-cuda",
        )
        progress.advance(1)
        for name in facts.weight_files:
            place(checkpoint.path / name, out_dir / name)
        config = _engine_config(checkpoint, settings, facts, self.tool_versions())
        config["graph"] = graph_in(out_dir)
        write_json(out_dir / CONFIG_NAME, config)
        progress.advance(1)
        proof = _proof(out_dir, settings, facts)
        write_proof(out_dir, proof)
        progress.advance(1)
        return {
            "backend": self.name,
            "attention_sites": facts.attention_sites,
            "attention": proof["built"]["status"],
            "op_counts": facts.op_counts,
        }

    def why_not_runnable(
        self, settings: EngineSettings, hardware: Hardware, *, num_ranks: int = 1
    ) -> str | None:
        """On the CPU it runs wherever it can be built; on a GPU, where one is."""
        unavailable = self.why_unavailable(hardware)
        if unavailable is not None or settings.device == "cpu":
            return unavailable
        return "; ".join(devices.missing_for_cuda(hardware)) or None

    def load(self, engine_dir: Path, checkpoint_dir: Path) -> Session:
        """Open the graph; its rank files lie beside it, else in `checkpoint_dir`.

        Raises MachineError where the device is not here, VerificationError where the folder is
        damaged.
        """
        config = _read_engine_config(engine_dir)
        names = config["weight_files"]
        beside = all((engine_dir / name).is_file() for name in names)
        weights_dir = engine_dir if beside else checkpoint_dir
        for name in names:
            read_header(weights_dir / name)  # ONNX Runtime maps a shortened file without a word
        graph, sizes = engine_dir / GRAPH_NAME, (config["max_batch_size"], config["max_seq_len"])
        if config.get("device", "cpu") == "cuda":
            session: PlacedSession = _open_cuda(graph, weights_dir, sizes, config["op_counts"])
        else:
            session = _open_cpu(graph, weights_dir, sizes)
        return with_long_rotary(session, config["checkpoint"])

    def open_generator(
        self, engine_dir: Path, checkpoint_dir: Path, *, timeout_s: float
    ) -> Generator:
        """Over `load`; it runs in this process, so that `timeout_s` ends nothing."""
        return SessionGenerator(self.load(engine_dir, checkpoint_dir))


def _proof(out_dir: Path, settings: EngineSettings, facts: GraphFacts) -> dict[str, Json]:
    """Execute the graph of an engine folder, and say what its attention was."""
    if settings.device == "cpu":
        return cpu_proof(out_dir / GRAPH_NAME, out_dir, settings, facts)
    sizes = (1, settings.max_seq_len)
    return cuda_proof(
        _open_cuda(out_dir / GRAPH_NAME, out_dir, sizes, facts.op_counts), settings, facts
    )


def _open_cpu(graph: Path, weights_dir: Path, sizes: tuple[int, int]) -> CpuSession:
    from pipeline.engines.onnxruntime.cpu_session import open_session
    from pipeline.engines.onnxruntime.inference import Limits

    return open_session(graph, weights_dir, Limits(*sizes))


def _open_cuda(
    graph: Path, weights_dir: Path, sizes: tuple[int, int], op_counts: Mapping[str, int]
) -> CudaSession:
    """A session on the first GPU. Raises MachineError without one."""
    from pipeline.engines.onnxruntime.cuda_session import open_session
    from pipeline.engines.onnxruntime.inference import Limits

    gpus = detect().gpus
    if not gpus:
        raise MachineError(
            "this engine needs an NVIDIA GPU, and there is none, or no driver for it",
            hint="use a machine with a GPU, or build with `engine.device: cpu`",
        )
    records = not _NOT_RECORDED & op_counts.keys()
    return open_session(graph, weights_dir, Limits(*sizes), gpus[0].name, uses_graphs=records)


def _engine_config(
    checkpoint: TrtllmCheckpoint,
    settings: EngineSettings,
    facts: GraphFacts,
    tools: Mapping[str, str],
) -> dict[str, Json]:
    return {
        "backend": "onnxruntime",
        "device": settings.device,
        "dtype": checkpoint.config["dtype"],
        "compute_dtype": facts.compute_dtype,
        "max_batch_size": settings.max_batch_size,
        "max_input_len": settings.max_input_len,
        "max_seq_len": settings.max_seq_len,
        "targets": [settings.device],
        "tool_versions": dict(tools),
        "checkpoint": dict(checkpoint.config),
        "weight_files": list(facts.weight_files),
        "op_counts": facts.op_counts,
    }


def graph_in(engine_dir: Path) -> dict[str, Json]:
    """What the graph of an engine folder is and needs, to hold against it wherever it goes."""
    path = engine_dir / GRAPH_NAME
    return {"file": GRAPH_NAME, **graph_record(read_model(path), sizes_beside(path))}


def _read_engine_config(engine_dir: Path) -> dict[str, Json]:
    try:
        config: dict[str, Json] = json.loads((engine_dir / CONFIG_NAME).read_bytes())
        missing = {"checkpoint", "max_batch_size", "max_seq_len", "weight_files"} - config.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise VerificationError(f"`{engine_dir}` is not an engine folder: {error}") from None
    if missing or config.get("backend") != "onnxruntime":
        raise VerificationError(f"`{engine_dir / CONFIG_NAME}` is not of an `onnxruntime` engine")
    return config


ENGINE: Engine = OnnxRuntimeEngine()
