"""Stage `convert`: the source checkpoint becomes a TensorRT-LLM checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Json, write_json
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.stages.stage import Inputs, Stage
from pipeline.weights.ledger import count_tensors, ledgers
from pipeline.weights.stream import write_checkpoint

LEDGER_NAME = "ledger.json"


def settings(plan: Plan) -> Json:
    """Rules, target config and layout; the source's bytes are in the key of `download`."""
    return {
        "family": plan.family.name,
        "rules": plan.family.digest(),
        "dtype": plan.dtype,
        "tp_size": plan.parallelism.tp_size,
        "pp_size": plan.parallelism.pp_size,
        "config": dict(plan.conversion.config),
    }


def run(plan: Plan, inputs: Inputs, out_dir: Path, progress: Progress) -> Mapping[str, Json]:
    """Write config.json, `rank<N>.safetensors` and the ledgers.

    Raises VerificationError, RecipeError or ResourceError as `write_checkpoint` does.
    """
    conversion = plan.conversion
    write_checkpoint(conversion, inputs["download"].path, out_dir, progress)
    write_json(out_dir / LEDGER_NAME, ledgers(conversion))
    return {
        "architecture": conversion.config["architecture"],
        "family": plan.family.name,
        "dtype": plan.dtype,
        "tp_size": plan.parallelism.tp_size,
        "pp_size": plan.parallelism.pp_size,
        "source_bytes": conversion.source_bytes,
        "rank_bytes": [rank.num_bytes for rank in conversion.ranks],
        "tensors": count_tensors(conversion),
    }


def summary(facts: Mapping[str, Json]) -> str:
    """Ranks, dtype and size, and how many tensors changed their dtype."""
    ranks = len(facts["rank_bytes"])
    told = f"{ranks} rank file{'s' if ranks != 1 else ''}, {facts['dtype']}"
    cast = facts["tensors"]["cast"]
    return f"{told}, {sum(facts['rank_bytes']):,} bytes" + (f", {cast} cast" if cast else "")


STAGE = Stage("convert", 1, ("download",), settings, run, summary)
