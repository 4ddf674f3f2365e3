"""The attention proof of an `onnxruntime` engine: two passes are executed, and their kernels named.

`Attention` is a function in ONNX: a runtime may replace it by its parts, and a kernel of a GPU may
compute it in several. Imports onnxruntime when it executes.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifact import Json
from pipeline.engines.attention_proof import proof
from pipeline.engines.onnxruntime.devices import SINGLE_OPERATOR
from pipeline.errors import MachineError, ResourceError, ToolFailed
from pipeline.recipe.schema import EngineSettings

if TYPE_CHECKING:
    from pipeline.engines.onnxruntime.cuda_session import CudaSession
    from pipeline.graph.facts import GraphFacts

_SOFTMAX_OPERATOR = re.compile(r"\bonnxruntime::cuda::softmax_|\bonnxruntime::cuda::.*SoftMax")
"""Kernels of the operator `Softmax`; those of unfused attention are in `onnxruntime::contrib`
(ONNX Runtime 1.31, by CUPTI)."""

_LENIENT = "set `engine.attention.require_fused: false`"


def cpu_proof(
    graph: Path, weights_dir: Path, settings: EngineSettings, facts: GraphFacts
) -> dict[str, Json]:
    """Execute one prompt token and one step under ONNX Runtime's profiler, and count kernels.

    Raises ToolFailed where `Attention` was replaced by its parts although fused attention is
    required.
    """
    counts = _executed_kernels(graph, weights_dir, settings)
    parts = counts["Softmax"] - facts.op_counts.get("Softmax", 0)  # those of experts are no parts
    single = counts["Attention"] == facts.attention_sites and parts == 0
    if settings.attention.require_fused and not single:
        raise ToolFailed(
            f"ONNX Runtime executed {counts['Attention']} `Attention` operators for "
            f"{facts.attention_sites} layers",
            hint=f"{_LENIENT}, or use another ONNX Runtime",
        )
    status = "fused" if single else "unfused"
    observed = {
        "status": status,
        "level": "operator",
        "device": "cpu",
        "attention_kernels": counts["Attention"],
        "softmax_kernels": parts,
        "evidence": "ONNX Runtime's profiler, one context and one generation pass",
    }
    built = _built(facts, status, "operator", facts.op_counts["Attention"], "cpu", SINGLE_OPERATOR)
    return proof(settings.attention, built, observed)


def _executed_kernels(graph: Path, weights_dir: Path, settings: EngineSettings) -> Counter[str]:
    """Kernels of the CPU provider by operator, per pass; both passes execute the same ones."""
    from pipeline.engines.onnxruntime.cpu_session import Limits, open_session, session_options

    with tempfile.TemporaryDirectory() as folder:
        options = session_options(profile_prefix=Path(folder) / "profile")
        limits = Limits(1, settings.max_seq_len)
        session = open_session(graph, weights_dir, limits, options)
        session.start([[0]])
        session.step([0])
        events = _read_profile(Path(session.inner.end_profiling()))
    kernels = Counter(
        event["args"]["op_name"]
        for event in events
        if event.get("cat") == "Node"
        and event["name"].endswith("_kernel_time")
        and event["args"].get("provider") == "CPUExecutionProvider"
    )
    return Counter({name: count // 2 for name, count in kernels.items()})


def _read_profile(path: Path) -> list[dict[str, Json]]:
    """The events of a profile. ONNX Runtime tells nobody where it cannot write one.

    Raises MachineError where there is none, ResourceError where it is cut short.
    """
    try:
        events: list[dict[str, Json]] = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise MachineError(
            f"ONNX Runtime could not write its profile `{path}`",
            hint="check the permissions and the free space there",
        ) from None
    except ValueError:
        raise ResourceError(
            f"the profile that ONNX Runtime wrote to `{path}` is cut short",
            hint="free some space, or name a store on a larger disk by `--store`",
        ) from None
    return events


def cuda_proof(
    session: CudaSession, settings: EngineSettings, facts: GraphFacts
) -> dict[str, Json]:
    """Execute a context pass and generation steps on the GPU, and classify kernels by name.

    The build has nothing else to go by, so that what was observed is what was built. Raises
    ToolFailed where fused attention is required and was not seen in both passes.
    """
    from pipeline.engines.traced_generator import observe

    # Experts are chosen by a softmax of their own. Were attention taken apart for it, there would
    # be fewer attention operators than sites.
    has_experts = facts.op_counts.get("Softmax", 0) > 0
    is_apart = _is_softmax_operator if has_experts else None
    seen_kernels = observe(session.plain(), [0], is_apart)
    observed = {**seen_kernels, "device": session.executed_by["device"]}
    seen = observed["status"] in ("fused", "unfused")
    status = observed["status"] if seen else "unknown"
    if settings.attention.require_fused and status != "fused":
        raise ToolFailed(
            f"the attention kernels that ONNX Runtime ran on the GPU are {status}",
            facts=_told(observed),
            hint=f"{_LENIENT}, or use float16 or bfloat16 in `checkpoint.dtype`",
        )
    evidence = str(observed.get("evidence", observed.get("reason")))
    level, layers = "kernel" if seen else "operator", session.num_attention_nodes
    built = _built(facts, status, level, layers, "cuda", evidence)
    return proof(settings.attention, built, observed)


def _is_softmax_operator(name: str) -> bool:
    return _SOFTMAX_OPERATOR.search(name) is not None


def _told(observed: Mapping[str, Json]) -> list[str]:
    """The kernels of each phase, or why there are none."""
    if "context" not in observed:
        return [str(observed.get("reason"))]
    return [
        f"{phase}, {observed[phase]['status']}: {name}"
        for phase in ("context", "generation")
        for name in observed[phase]["kernels"]
    ]


def _built(
    facts: GraphFacts, status: str, level: str, layers: int, target: str, evidence: str
) -> dict[str, Json]:
    return {
        "status": status,
        "level": level,
        "attention_sites": facts.attention_sites,
        "attention_layers": layers,
        "decomposable": None,  # a matter of TensorRT's builder: ONNX has no such attribute
        "layers_by_kind": facts.op_counts,
        "targets": [target],
        "evidence": evidence,
    }
