"""What `plan` and `run` answer: one document for machines, the same told to people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.artifact import Artifact, Json
from pipeline.console import (
    fields,
    format_bytes,
    printable,
    problem_document,
    render_problem,
    table,
)
from pipeline.errors import Problem, UsageError
from pipeline.hardware import free_disk_bytes
from pipeline.plan import Plan
from pipeline.recipe.load import load_recipe
from pipeline.run import StageResult, StageState
from pipeline.run_record import past_seconds
from pipeline.store import Store

HEADING = ("stage", "state", "disk", "memory", "last time", "key")


def plan_document(
    plan: Plan, states: Sequence[StageState], problems: Sequence[Problem], store: Store
) -> dict[str, Json]:
    """Everything that the plan resolved, JSON."""
    conversion = plan.conversion
    past = past_seconds(plan, store)
    return {
        "recipe": plan.recipe.model_dump(mode="json"),
        "source": {
            "kind": plan.source.listing.kind,
            "where": plan.source.listing.where,
            "commit": plan.source.listing.commit,
            "num_files": len(plan.source.listing.files),
            "total_bytes": plan.source.listing.total_bytes,
        },
        "checkpoint": {
            "architecture": plan.checkpoint.architecture,
            "family": plan.family.name,
            "dtype": plan.dtype,
            **asdict(conversion.parallelism),
            "source_bytes": conversion.source_bytes,
            "target_bytes": conversion.target_bytes,
            "rank_bytes": [rank.num_bytes for rank in conversion.ranks],
        },
        "engine": {
            "backend": plan.engine.name,
            "tools": dict(plan.build_tools),
            "attention": list(plan.engine.attention_support(conversion.config, plan.recipe.engine)),
            "smoke_executor": plan.executor,
            "smoke_executor_reason": plan.executor_reason,
        },
        "stages": [_stage_document(plan, state, past) for state in states],
        "free": {
            "disk_bytes": free_disk_bytes(store.root),
            "memory_bytes": plan.hardware.available_memory_bytes,
        },
        "problems": [problem_document(problem) for problem in problems],
    }


def _stage_document(plan: Plan, state: StageState, past: Mapping[str, float]) -> dict[str, Json]:
    need = plan.needs[state.stage.name]
    return {
        "stage": state.stage.name,
        "key": state.key,
        "cached": state.artifact is not None,
        "disk_bytes": need.disk_bytes,
        "memory_bytes": need.memory_bytes,
        "past_seconds": past.get(state.stage.name),
    }


def plan_text(document: dict[str, Json], problems: Sequence[Problem]) -> str:
    """The plan for people."""
    parts = [
        f"plan of {document['recipe']['name']}",
        fields(_plan_fields(document)),
        "",
        table([HEADING, *map(_stage_row, document["stages"])]),
        "",
        fields(_budget_fields(document)),
        "",
    ]
    if not problems:
        return "\n".join([*parts, "no problems found"])
    parts.append(f"{len(problems)} problem{'s' if len(problems) != 1 else ''} found")
    for problem in problems:
        parts += ["", *render_problem(problem)]
    return "\n".join(parts)


def _plan_fields(document: dict[str, Json]) -> dict[str, str]:
    source, checkpoint, engine = document["source"], document["checkpoint"], document["engine"]
    settings = document["recipe"]["engine"]
    commit = f" at {source['commit']}" if source["commit"] else ""
    ranks = checkpoint["rank_bytes"]
    size = format_bytes(max(ranks))
    rows = {
        "source": f"{source['where']}{commit}: {source['num_files']} files, "
        f"{format_bytes(source['total_bytes'])}",
        "model": f"{checkpoint['architecture']}, family {checkpoint['family']}",
        "checkpoint": f"{checkpoint['dtype']}, tp {checkpoint['tp_size']} x "
        f"pp {checkpoint['pp_size']}: {len(ranks)} rank{'s' if len(ranks) > 1 else ''} "
        f"of {'up to ' if len(set(ranks)) > 1 else ''}{size}",
        "engine": f"{engine['backend']}, batch {settings['max_batch_size']}, input "
        f"{settings['max_input_len']}, sequence {settings['max_seq_len']} tokens",
    }
    for support in engine["attention"]:
        state = {True: "fused", False: "not fused", None: "unknown"}[support["fused"]]
        rows[f"attention {support['target']}"] = f"{state}: {support['reason']}"
    rows["smoke"] = (
        "executes the engine"
        if engine["smoke_executor"] == "engine"
        else "executes the same graph on ONNX Runtime (CPU), because "
        f"{engine['smoke_executor_reason']}"
    )
    return rows


def _stage_row(stage: Json) -> tuple[str, ...]:
    sizes = [stage["disk_bytes"], stage["memory_bytes"]]
    shown = [format_bytes(size) if size and not stage["cached"] else "-" for size in sizes]
    state = "reused" if stage["cached"] else "to do"
    past = stage["past_seconds"]
    took = "-" if stage["cached"] or past is None else f"{past:.1f} s"
    key = (stage["key"] or "known after download")[:20]
    return (stage["stage"], state, *shown, took, key)


def _budget_fields(document: dict[str, Json]) -> dict[str, str]:
    todo = [stage for stage in document["stages"] if not stage["cached"]]
    disk = sum(stage["disk_bytes"] for stage in todo)
    memory = max((stage["memory_bytes"] for stage in todo), default=0)
    free = document["free"]
    return {
        "disk": f"{format_bytes(disk)} needed, {format_bytes(free['disk_bytes'])} free",
        "memory": f"{format_bytes(memory)} needed, {format_bytes(free['memory_bytes'])} available",
    }


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
    if "build" in artifacts:
        proof = json.loads((artifacts["build"].path / "attention.json").read_bytes())
        parts += ["attention", fields(proof_fields(proof)), ""]
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
            f"  {len(prompt['token_ids'])} tokens, stopped by {prompt['stop_reason']}; "
            + (f"{held} expectation{'s' if held > 1 else ''} held" if held else "nothing expected")
        )
    return lines


def proof_fields(proof: Json) -> dict[str, str]:
    """An attention proof for people: requested, built and observed, each by itself."""
    asked, built, observed = proof["requested"], proof["built"], proof["observed"]
    kernels = "fused" if asked["context_fmha"] else "not fused"
    sites = f"{built['attention_layers']} of {built['attention_sites']} attention sites"
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
