"""What `plan` answers about a package without an engine."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.artifact import Json
from pipeline.console import fields, format_bytes, problem_document, table
from pipeline.errors import Problem
from pipeline.hardware import free_disk_bytes
from pipeline.plan_report import HEADING, budget_fields, problem_lines, stage_document, stage_row
from pipeline.pytorch_plan import PytorchPlan
from pipeline.run import StageState
from pipeline.run_record import past_seconds
from pipeline.store import Store


def pytorch_plan_document(
    plan: PytorchPlan, states: Sequence[StageState], problems: Sequence[Problem], store: Store
) -> dict[str, Json]:
    """Everything that the plan resolved, JSON; keys that every plan has are the same."""
    listing = plan.source.listing
    past = past_seconds(plan, store)
    return {
        "recipe": plan.recipe.model_dump(mode="json"),
        "source": {
            "kind": listing.kind,
            "where": listing.where,
            "commit": listing.commit,
            "num_files": len(listing.files),
            "total_bytes": listing.total_bytes,
        },
        "checkpoint": {
            "architecture": plan.checkpoint.architecture,
            "num_tensors": len(plan.checkpoint.tensors),
            "source_bytes": plan.checkpoint.weight_bytes,
        },
        "serve": {
            "options": dict(plan.carriage.options),
            "without_meaning": dict(plan.carriage.idle),
        },
        "stages": [stage_document(plan, state, past) for state in states],
        "free": {
            "disk_bytes": free_disk_bytes(store.root),
            "memory_bytes": plan.hardware.available_memory_bytes,
        },
        "problems": [problem_document(problem) for problem in problems],
    }


def pytorch_plan_text(document: dict[str, Json], problems: Sequence[Problem]) -> str:
    """The plan for people."""
    source, checkpoint = document["source"], document["checkpoint"]
    commit = f" at {source['commit']}" if source["commit"] else ""
    rows = {
        "source": f"{source['where']}{commit}: {source['num_files']} files, "
        f"{format_bytes(source['total_bytes'])}",
        "model": f"{checkpoint['architecture']}, passed on as it is: "
        f"{checkpoint['num_tensors']} tensors, {format_bytes(checkpoint['source_bytes'])}",
        "serve": _options(document["serve"]["options"]),
        "ignored": ", ".join(_changed(document)) or "nothing that the recipe sets",
        "attention": "not built, not observed: there is no engine",
    }
    parts = [
        f"plan of {document['recipe']['name']}, without an engine",
        fields(rows),
        "",
        table([HEADING, *map(stage_row, document["stages"])]),
        "",
        fields(budget_fields(document)),
        "",
    ]
    return "\n".join([*parts, *problem_lines(problems)])


def _options(options: Json) -> str:
    """The limits and the layout, as `serve.yaml` spells them."""
    told = ("max_batch_size", "max_num_tokens", "max_seq_len", "tensor_parallel_size")
    return ", ".join(f"{key} {options[key]}" for key in told)


def _changed(document: dict[str, Json]) -> list[str]:
    """Keys that the recipe sets in vain."""
    idle = document["serve"]["without_meaning"]
    return [
        key
        for key, entry in idle.items()
        if not entry["is_default"] and not key.startswith("package.")
    ]
