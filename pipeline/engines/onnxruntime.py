"""The backend `onnxruntime`: the decoder graph on the CPU, in float32.

It runs on every machine, which makes every recipe executable, and is the numeric check of the
backends that compile the same graph for a GPU.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifact import Json, place, write_json
from pipeline.checkpoint.safetensors_file import read_header
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.engine import CONFIG_NAME, Engine, Estimate, TargetSupport
from pipeline.engines.generator import Generator, SessionGenerator
from pipeline.errors import Problem, ToolFailed, VerificationError
from pipeline.graph.config import graph_problems
from pipeline.hardware import Hardware
from pipeline.progress import Progress
from pipeline.recipe.schema import EngineSettings

if TYPE_CHECKING:
    from pipeline.engines.cpu_session import CpuSession
    from pipeline.graph.facts import GraphFacts

GRAPH_NAME = "decoder.onnx"
COMPUTE_DTYPE = "float32"
"""ONNX Runtime's CPU provider has no bfloat16 kernels for all operators of the graph."""

_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
_SINGLE_OPERATOR = (
    "each attention is one `Attention` operator, executed by one kernel of the CPU provider; "
    "GPU flash-attention kernels are not part of a CPU engine"
)


class OnnxRuntimeEngine:
    """See `pipeline.engines.engine.Engine`."""

    name = "onnxruntime"

    def why_unavailable(self) -> str | None:
        """The missing packages, or None."""
        absent = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
        return f"not installed: {', '.join(f'`{name}`' for name in absent)}" if absent else None

    def problems(
        self, config: Mapping[str, Json], settings: EngineSettings, hardware: Hardware
    ) -> list[Problem]:
        """What the graph cannot express; memory is the plan's to compare with `estimate`."""
        return graph_problems(config, settings.max_seq_len)

    def tool_versions(self) -> dict[str, str]:
        """onnx writes the graph, ONNX Runtime proves and executes it."""
        found = {}
        for name in ("onnx", *_RUNTIMES):
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue  # one runtime of two; `why_unavailable` says where none is installed
        return found

    def attention_support(
        self, config: Mapping[str, Json], settings: EngineSettings
    ) -> list[TargetSupport]:
        """One answer, for the CPU: the recipe's GPU targets do not concern this backend."""
        return [{"target": "cpu", "fused": True, "reason": _SINGLE_OPERATOR}]

    def notes(self, config: Mapping[str, Json], settings: EngineSettings) -> list[str]:
        """None."""
        return []

    def estimate(
        self, config: Mapping[str, Json], settings: EngineSettings, weight_bytes: int
    ) -> Estimate:
        """Memory: weights in float32, twice while they are packed for the kernels.

        Disk: the engine folder, rank files included, although these are linked where possible.
        """
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        tables = settings.max_seq_len * (config.get("head_size") or hidden // heads) * 4
        graph = tables + config["num_hidden_layers"] * (32 << 10)
        return {
            "memory_bytes": 2 * weight_bytes * 4 // _ITEM_BYTES[config["dtype"]] + (256 << 20),
            "disk_bytes": weight_bytes + graph,
        }

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
            compute_dtype=COMPUTE_DTYPE,
            fixed_cache=False,
        )
        progress.advance(1)
        for name in facts.weight_files:
            place(checkpoint.path / name, out_dir / name)
        config = _engine_config(checkpoint, settings, facts, self.tool_versions())
        write_json(out_dir / CONFIG_NAME, config)
        progress.advance(1)
        proof = attention_proof(out_dir, settings, facts)
        write_json(out_dir / "attention.json", proof)
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
        """It runs wherever it can be built."""
        return self.why_unavailable()

    def load(self, engine_dir: Path, checkpoint_dir: Path) -> CpuSession:
        """Open the graph; its rank files lie beside it, else in `checkpoint_dir`."""
        from pipeline.engines.cpu_session import Limits, open_session

        config = _read_engine_config(engine_dir)
        names = config["weight_files"]
        beside = all((engine_dir / name).is_file() for name in names)
        weights_dir = engine_dir if beside else checkpoint_dir
        for name in names:
            read_header(weights_dir / name)  # ONNX Runtime maps a shortened file without a word
        limits = Limits(config["max_batch_size"], config["max_seq_len"])
        return open_session(engine_dir / GRAPH_NAME, weights_dir, limits)

    def open_generator(
        self, engine_dir: Path, checkpoint_dir: Path, *, timeout_s: float
    ) -> Generator:
        """Over `load`; it runs in this process, so that `timeout_s` ends nothing."""
        return SessionGenerator(self.load(engine_dir, checkpoint_dir))


def _engine_config(
    checkpoint: TrtllmCheckpoint,
    settings: EngineSettings,
    facts: GraphFacts,
    tools: Mapping[str, str],
) -> dict[str, Json]:
    return {
        "backend": "onnxruntime",
        "dtype": checkpoint.config["dtype"],
        "compute_dtype": facts.compute_dtype,
        "max_batch_size": settings.max_batch_size,
        "max_input_len": settings.max_input_len,
        "max_seq_len": settings.max_seq_len,
        "targets": ["cpu"],
        "tool_versions": dict(tools),
        "checkpoint": dict(checkpoint.config),
        "weight_files": list(facts.weight_files),
        "op_counts": facts.op_counts,
    }


def _read_engine_config(engine_dir: Path) -> dict[str, Json]:
    try:
        config: dict[str, Json] = json.loads((engine_dir / CONFIG_NAME).read_bytes())
        missing = {"max_batch_size", "max_seq_len", "weight_files"} - config.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise VerificationError(f"`{engine_dir}` is not an engine folder: {error}") from None
    if missing or config.get("backend") != "onnxruntime":
        raise VerificationError(f"`{engine_dir / CONFIG_NAME}` is not of an `onnxruntime` engine")
    return config


def attention_proof(
    engine_dir: Path, settings: EngineSettings, facts: GraphFacts
) -> dict[str, Json]:
    """Execute one prompt token and one step under ONNX Runtime's profiler, and count kernels.

    `Attention` is a function in ONNX: a runtime may replace it by its parts. Raises ToolFailed
    where that happened although fused attention is required.
    """
    counts = _executed_kernels(engine_dir, settings)
    single = counts["Attention"] == facts.attention_sites and not counts["Softmax"]
    if settings.attention.require_fused and not single:
        raise ToolFailed(
            f"ONNX Runtime executed {counts['Attention']} `Attention` operators for "
            f"{facts.attention_sites} layers",
            hint="set `engine.attention.require_fused: false`, or use another ONNX Runtime",
        )
    return {
        "requested": settings.attention.model_dump(),
        "built": {
            "status": "fused" if single else "unfused",
            "level": "operator",
            "attention_sites": facts.attention_sites,
            "attention_layers": facts.op_counts["Attention"],
            "decomposable": None,  # a matter of TensorRT's builder: ONNX has no such attribute
            "layers_by_kind": facts.op_counts,
            "targets": ["cpu"],
            "evidence": _SINGLE_OPERATOR,
        },
        "observed": {
            "status": "fused" if single else "unfused",
            "level": "operator",
            "device": "cpu",
            "attention_kernels": counts["Attention"],
            "softmax_kernels": counts["Softmax"],
            "evidence": "ONNX Runtime's profiler, one context and one generation pass",
        },
    }


def _executed_kernels(engine_dir: Path, settings: EngineSettings) -> Counter[str]:
    """Kernels of the CPU provider by operator, per pass; both passes execute the same ones."""
    from pipeline.engines.cpu_session import Limits, open_session, session_options

    with tempfile.TemporaryDirectory() as folder:
        options = session_options(profile_prefix=Path(folder) / "profile")
        limits = Limits(1, settings.max_seq_len)
        session = open_session(engine_dir / GRAPH_NAME, engine_dir, limits, options)
        session.start([[0]])
        session.step([0])
        events = json.loads(Path(session.inner.end_profiling()).read_bytes())
    kernels = Counter(
        event["args"]["op_name"]
        for event in events
        if event.get("cat") == "Node"
        and event["name"].endswith("_kernel_time")
        and event["args"].get("provider") == "CPUExecutionProvider"
    )
    return Counter({name: count // 2 for name, count in kernels.items()})


ENGINE: Engine = OnnxRuntimeEngine()
