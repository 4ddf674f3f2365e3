"""Stage `convert`: the source checkpoint becomes a TensorRT-LLM checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pipeline.artifact import Json, write_json
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.stages.stage import Inputs, Stage
from pipeline.weights.ledger import count_tensors, ledgers
from pipeline.weights.stream import write_checkpoint
from pipeline.wording import counted

LEDGER_NAME = "ledger.json"


def settings(plan: Plan) -> Json:
    """Rules and target config, which has the layout; the source is in the key of `download`."""
    conversion = plan.conversion
    return {
        "family": conversion.family.name,
        "rules": conversion.family.digest(),
        "dtype": conversion.dtype,
        "clamp": conversion.clamp,
        "config": dict(conversion.config),
    }


def run(plan: Plan, inputs: Inputs, out_dir: Path, progress: Progress) -> Mapping[str, Json]:
    """Write config.json, `rank<N>.safetensors` and the ledgers, going on from an earlier run.

    Raises VerificationError, RecipeError or ResourceError as `write_checkpoint` does.
    """
    conversion = plan.conversion
    source_dir, memory = inputs["download"].path, plan.max_memory_bytes
    write_checkpoint(
        conversion, source_dir, out_dir, progress, max_memory_bytes=memory, resumable=True
    )
    write_json(out_dir / LEDGER_NAME, ledgers(conversion))
    return {
        "architecture": conversion.config["architecture"],
        "family": conversion.family.name,
        "dtype": conversion.dtype,
        **asdict(conversion.parallelism),
        "source_bytes": conversion.source_bytes,
        "rank_bytes": [rank.num_bytes for rank in conversion.ranks],
        "tensors": count_tensors(conversion),
    }


def summary(facts: Mapping[str, Json]) -> str:
    """Ranks, dtype and size, and how many tensors changed their dtype."""
    told = f"{counted(len(facts['rank_bytes']), 'rank file')}, {facts['dtype']}"
    cast = facts["tensors"]["cast"]
    return f"{told}, {sum(facts['rank_bytes']):,} bytes" + (f", {cast} cast" if cast else "")


STAGE = Stage("convert", 2, ("download",), settings, run, summary, resumable=True)
