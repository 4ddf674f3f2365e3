"""Stage `verify`: the converted checkpoint is taken apart again and compared with its source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Json, write_json
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.stages.stage import Inputs, Stage
from pipeline.weights.roundtrip import compare

PARITY_NAME = "parity.json"


def settings(plan: Plan) -> Json:
    """The family's statement of what a rank file holds; all else is in the inputs' keys."""
    return {"rules": plan.family.digest()}


def run(plan: Plan, inputs: Inputs, out_dir: Path, progress: Progress) -> Mapping[str, Json]:
    """Write the parity record. Raises VerificationError naming every tensor that does not match."""
    download, convert = inputs["download"].path, inputs["convert"].path
    structure = compare(plan.conversion, download, convert, progress)
    write_json(out_dir / PARITY_NAME, {"structure": structure})
    return {"structure": structure}


def summary(facts: Mapping[str, Json]) -> str:
    """What was compared, and how far casts went."""
    structure = facts["structure"]
    told = []
    if structure["exact_tensors"]:
        told.append(f"{structure['exact_tensors']} tensors equal to the byte")
    if structure["cast_tensors"]:
        error = structure["largest_relative_error"]
        loss = f"relative error up to {error['value']:.2g}" if error else "without loss"
        told.append(f"{structure['cast_tensors']} tensors cast, {loss}")
    if structure["changed_tensors"]:
        told.append(f"{structure['changed_tensors']} tensors as computed from the source")
    return "; ".join(told)


STAGE = Stage("verify", 2, ("download", "convert"), settings, run, summary)
