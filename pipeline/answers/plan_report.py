"""What `plan` answers: one document for machines, the same told to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from pipeline.artifact import Json
from pipeline.console import fields, format_bytes, problem_document, render_problem, table
from pipeline.errors import Problem
from pipeline.hardware import free_disk_bytes
from pipeline.plan import Plan, SourcePlan
from pipeline.pytorch_plan import PytorchPlan
from pipeline.run import StageState
from pipeline.run_record import past_seconds
from pipeline.store import Store
from pipeline.wording import counted

HEADING = ("stage", "state", "disk", "memory", "last time", "key")


def plan_document(
    plan: Plan, states: Sequence[StageState], problems: Sequence[Problem], store: Store
) -> dict[str, Json]:
    """Everything that the plan resolved, JSON."""
    conversion = plan.conversion
    return {
        **shared_document(plan, states, problems, store),
        "checkpoint": {
            "architecture": plan.checkpoint.architecture,
            "family": conversion.family.name,
            "dtype": conversion.dtype,
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
            "memory": plan.engine.memory_report(conversion.config, plan.recipe.engine),
            "notes": plan.engine.notes(conversion.config, plan.recipe.engine),
        },
    }


def shared_document(
    plan: Plan | PytorchPlan,
    states: Sequence[StageState],
    problems: Sequence[Problem],
    store: Store,
) -> dict[str, Json]:
    """What the documents of all plans have, also of one without an engine."""
    listing, past = plan.source.listing, past_seconds(plan, store)
    return {
        "recipe": plan.recipe.model_dump(mode="json"),
        "source": {
            "kind": listing.kind,
            "where": listing.where,
            "commit": listing.commit,
            "endpoint": listing.endpoint,
            "num_files": len(listing.files),
            "total_bytes": listing.total_bytes,
        },
        "stages": [_stage_document(plan, state, past) for state in states],
        "free": {
            "disk_bytes": free_disk_bytes(store.root),
            "memory_bytes": plan.hardware.available_memory_bytes,
        },
        "problems": [problem_document(problem) for problem in problems],
    }


def _stage_document(
    plan: SourcePlan, state: StageState, past: Mapping[str, float]
) -> dict[str, Json]:
    """A stage before a run: what is reused, and what it takes."""
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
    memory, notes = document["engine"]["memory"], document["engine"]["notes"]
    parts = [] if memory is None else [*memory_lines(memory), ""]
    if notes:
        parts += [*(f"  note: {note}" for note in notes), ""]
    heading = f"plan of {document['recipe']['name']}"
    return shared_text(heading, _plan_fields(document), document, parts, problems)


def shared_text(
    heading: str,
    rows: Mapping[str, str],
    document: Mapping[str, Json],
    parts: Sequence[str],
    problems: Sequence[Problem],
) -> str:
    """A plan for people: what it is, its stages, what they take, `parts` of its own, problems."""
    lines = [heading, fields(rows), ""]
    lines += [table([HEADING, *map(_stage_row, document["stages"])]), ""]
    lines += [fields(_budget_fields(document)), ""]
    return "\n".join([*lines, *parts, *problem_lines(problems)])


def source_text(source: Mapping[str, Json]) -> str:
    """For example `owner/name at 0123456789ab: 9 files, 1.5 GB`, with the whole commit."""
    site = " of ModelScope" if source["kind"] == "modelscope" else ""
    commit = f"{site} at {source['commit']}" if source["commit"] else ""
    size = format_bytes(source["total_bytes"])
    place = f", from {source['endpoint']}" if source["endpoint"] else ""
    return f"{source['where']}{commit}: {counted(source['num_files'], 'file')}, {size}{place}"


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """Every problem that was found, or that there is none."""
    if not problems:
        return ["no problems found"]
    lines = [f"{counted(len(problems), 'problem')} found"]
    for problem in problems:
        lines += ["", *render_problem(problem)]
    return lines


def _plan_fields(document: dict[str, Json]) -> dict[str, str]:
    checkpoint, engine = document["checkpoint"], document["engine"]
    settings = document["recipe"]["engine"]
    ranks = checkpoint["rank_bytes"]
    size = format_bytes(max(ranks))
    rows = {
        "source": source_text(document["source"]),
        "model": f"{checkpoint['architecture']}, family {checkpoint['family']}",
        "checkpoint": f"{checkpoint['dtype']}, tp {checkpoint['tp_size']} x "
        f"pp {checkpoint['pp_size']}: {counted(len(ranks), 'rank')} "
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
    """A stage as a row below `HEADING`."""
    sizes = [stage["disk_bytes"], stage["memory_bytes"]]
    shown = [format_bytes(size) if size and not stage["cached"] else "-" for size in sizes]
    state = "reused" if stage["cached"] else "to do"
    past = stage["past_seconds"]
    took = "-" if stage["cached"] or past is None else f"{past:.1f} s"
    key = (stage["key"] or "known after download")[:20]
    return (stage["stage"], state, *shown, took, key)


def _budget_fields(document: Mapping[str, Json]) -> dict[str, str]:
    """Disk and memory, needed and there."""
    todo = [stage for stage in document["stages"] if not stage["cached"]]
    disk = sum(stage["disk_bytes"] for stage in todo)
    memory = max((stage["memory_bytes"] for stage in todo), default=0)
    free = document["free"]
    return {
        "disk": f"{format_bytes(disk)} needed, {format_bytes(free['disk_bytes'])} free",
        "memory": f"{format_bytes(memory)} needed, {format_bytes(free['memory_bytes'])} available",
    }


def memory_lines(memory: Json) -> list[str]:
    """GPU memory of an engine's ranks, which known GPUs have it, and what the build takes."""
    ranks = memory["ranks"]
    sizes = f"tp {memory['tp_size']} x pp {memory['pp_size']}"
    lines = [
        f"GPU memory of each rank at the asked limits, {sizes}",
        table(_memory_rows(ranks)),
        "",
    ]
    lines += ["GPUs by their memory alone", table(_gpu_rows(memory)), ""]
    engine = {
        "engine files": format_bytes(memory["engine_bytes"]),
        "host memory": f"{format_bytes(memory['host_memory_bytes'])} for the build",
    }
    return [*lines, fields(engine)]


def _memory_rows(ranks: Sequence[Json]) -> list[tuple[str, ...]]:
    """A row for each term, a column for each pp rank: all of its tp ranks need the same."""
    heading = ("part", *(_rank_name(rank, len(ranks)) for rank in ranks), "how sure")
    sure = {term["name"]: _told_sure(term["sure"]) for rank in ranks for term in rank["terms"]}
    held = [{term["name"]: term["num_bytes"] for term in rank["terms"]} for rank in ranks]
    rows = [
        (name, *(format_bytes(sizes[name]) if name in sizes else "-" for sizes in held), sure[name])
        for name in sure
    ]
    per_token = (
        "KV cache of one token",
        *(f"{rank['kv_bytes_per_token']} B" for rank in ranks),
        "",
    )
    total = ("all", *(format_bytes(rank["total_bytes"]) for rank in ranks), "")
    return [heading, *rows, total, per_token]


def _told_sure(sure: str) -> str:
    """A version says in which sources a formula was read."""
    return f"read in {sure}" if sure[0].isdigit() else sure


def _rank_name(rank: Json, count: int) -> str:
    return "each rank" if count == 1 else f"pp rank {rank['pp_rank']}"


def _gpu_rows(memory: Json) -> list[tuple[str, ...]]:
    """GPUs of the recipe's targets, each; of others the smallest that holds the engine."""
    rows: list[tuple[str, ...]] = [("GPU", "target", "memory", "fits", "smallest layout")]
    others: set[str] = set()
    for gpu in memory["gpus"]:
        is_asked = gpu["target"] in memory["targets"]
        if not is_asked and (not gpu["fits"] or gpu["target"] in others):
            continue
        if not is_asked:
            others.add(gpu["target"])
        smallest = gpu["smallest"]
        layout = f"tp {smallest['tp_size']} x pp {smallest['pp_size']}" if smallest else "none"
        told = format_bytes(gpu["memory_bytes"])
        rows.append((gpu["name"], gpu["target"], told, "yes" if gpu["fits"] else "no", layout))
    return rows
