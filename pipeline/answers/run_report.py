"""What `run` and other commands answer: documents for machines, the same told to people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifact import Artifact, Json
from pipeline.console import fields, printable, table
from pipeline.engines.attention_proof import PROOF_NAME
from pipeline.errors import UsageError
from pipeline.parity.record import logits_fields
from pipeline.recipe.load import load_recipe
from pipeline.wording import counted

if TYPE_CHECKING:
    from pipeline.run import StageResult


def run_document(
    results: Sequence[StageResult], artifact: Artifact, placed: Path | None
) -> dict[str, Json]:
    """What a run made, JSON."""
    return {
        "artifact": str(placed or artifact.path),
        "key": artifact.key,
        "stages": [
            {
                "stage": result.stage.name,
                "key": result.artifact.key,
                "path": str(result.artifact.path),
                "reused": result.reused,
                "seconds": round(result.seconds, 3),
                "facts": dict(result.artifact.facts),
            }
            for result in results
        ],
    }


def run_text(results: Sequence[StageResult], artifact: Artifact, placed: Path | None) -> str:
    """What a run made, for people: generated text, attention proof, and where it is."""
    artifacts = {result.stage.name: result.artifact for result in results}
    parts: list[str] = []
    if "smoke" in artifacts:
        record = json.loads((artifacts["smoke"].path / "smoke.json").read_bytes())
        parts += [*generation_lines(record), ""]
    # The smoke test's has what was observed, where it traced the engine.
    stages = [name for name in ("smoke", "build") if name in artifacts]
    proofs = [artifacts[name].path / PROOF_NAME for name in stages]
    found = next((path for path in proofs if path.is_file()), None)
    if found is not None:
        proof = json.loads(found.read_bytes())
        parts += ["attention", fields(proof_fields(proof)), ""]
    if "verify" in artifacts and "logits" in artifacts["verify"].facts:
        parts += ["logits", fields(logits_fields(artifacts["verify"].facts["logits"])), ""]
    where = placed or artifact.path
    if artifact.manifest.stage == "package":
        facts = artifact.facts
        names = [facts["folder"], *([facts["tar"]] if "tar" in facts else [])]
        parts += [f"release  {where / name}" for name in names]
    else:
        parts.append(f"{artifact.manifest.stage}  {where}")
    return "\n".join(parts)


def explanation_text(ranks: Sequence[Json]) -> str:
    """How each rank makes a tensor, for people."""
    lines = []
    for rank in ranks:
        lines.append(f"{rank['file']}  {rank['dtype']} {rank['shape']}")
        lines += [f"  {line}" for line in rank["made"]]
    return "\n".join(lines)


def generation_lines(record: Json) -> list[str]:
    """A smoke record for people: what executed, every prompt and what it was continued by."""
    executed = record["executed_by"]
    lines = [f"generated text ({executed['note']})"]
    for prompt in record["prompts"]:
        held = len(prompt["expectations"])
        lines += ["", f"  {printable(prompt['prompt'])}"]
        lines += [
            f"  > {line}" for line in printable(prompt["text"].strip("\n")).splitlines() or [""]
        ]
        lines.append(
            f"  {counted(len(prompt['token_ids']), 'token')}, stopped by {prompt['stop_reason']}; "
            + (f"{counted(held, 'expectation')} held" if held else "nothing expected")
        )
    if "comparison" in record:
        lines += ["", f"  {_comparison_text(record['comparison'])}"]
    return lines


def _comparison_text(comparison: Json) -> str:
    """For example `compared with onnxruntime: all tokens equal; logits differ by up to 0.02`."""
    if not comparison["compared"]:
        return f"not compared: {comparison['reason']}"
    prompts = comparison["prompts"]
    differences = [
        f"prompt {number} differs from token {prompt['first_difference']} on"
        for number, prompt in enumerate(prompts)
        if prompt["first_difference"] is not None
    ]
    errors = [p["max_logit_error"] for p in prompts if p["max_logit_error"] is not None]
    told = f"compared with {comparison['executed_by']['backend']}: " + (
        ", ".join(differences) or "all tokens equal"
    )
    return f"{told}; logits differ by up to {max(errors):g}" if errors else told


def proof_fields(proof: Json) -> dict[str, str]:
    """An attention proof for people: requested, built and observed, each by itself."""
    asked, built, observed = proof["requested"], proof["built"], proof["observed"]
    kernels = "fused" if asked["context_fmha"] else "not fused"
    sites = counted(built["attention_sites"], "attention site")
    if built["status"] == "fused":
        sites = f"{built['attention_layers']} of {sites}"
    why = observed.get("reason") or observed.get("evidence")
    return {
        "requested": kernels + (", or fail" if asked["require_fused"] else ""),
        "built": f"{built['status']}: {sites} for {', '.join(built['targets'])}; "
        f"{built['evidence']}",
        "observed": f"{observed['status']}: {why}" if why else observed["status"],
    }


def recipes_document(folder: Path) -> dict[str, Json]:
    """The recipes below a folder, JSON. Raises RecipeError for one that is wrong."""
    rows = []
    for path in sorted(folder.rglob("*.yaml")):
        loaded = load_recipe(path)
        source = loaded.recipe.source
        rows.append(
            {
                "path": path.as_posix(),
                "name": loaded.recipe.name,
                "source": source.repo or source.path,
                "backend": loaded.recipe.engine.backend,
                "variants": sorted(loaded.variants),
            }
        )
    if not rows:
        raise UsageError(f"no recipe below `{folder}`", hint="name the folder of your recipes")
    return {"recipes": rows}


def recipes_text(document: dict[str, Json]) -> str:
    """The recipes for people."""
    heading = ("recipe", "source", "backend", "variants")
    rows = [
        (row["path"], row["source"], row["backend"], ", ".join(row["variants"]) or "-")
        for row in document["recipes"]
    ]
    return table([heading, *rows], indent="")
