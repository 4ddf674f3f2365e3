"""The run record: what differs from run to run, kept in the store and never inside a release.

Records of earlier runs also tell a plan how long its stages took here for a model of this size.
"""

from __future__ import annotations

import json
import platform
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from pipeline import __version__
from pipeline.artifact import Json, write_json
from pipeline.plan import Plan
from pipeline.pytorch_plan import PytorchPlan
from pipeline.run import StageResult
from pipeline.store import Store

COMPARABLE = 2.0
"""Records of a model up to so many times larger or smaller say something about this one."""
KEPT_RECORDS = 50
"""How many of the newest records a plan looks at."""


def write_run_record(
    plan: Plan | PytorchPlan, store: Store, results: Sequence[StageResult]
) -> None:
    """Write one record below `runs/` of the store, where some stage has worked."""
    if all(result.reused for result in results):
        return
    record = {
        "name": plan.recipe.name,
        "backend": _backend(plan),
        "checkpoint_bytes": _checkpoint_bytes(plan),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "trtllm_pack": __version__,
        "num_cpus": plan.hardware.num_cpus,
        "gpus": [gpu.name for gpu in plan.hardware.gpus],
        "stages": [
            {
                "stage": result.stage.name,
                "key": result.artifact.key,
                "reused": result.reused,
                "seconds": round(result.seconds, 3),
            }
            for result in results
        ],
    }
    folder = store.root / "runs"
    folder.mkdir(exist_ok=True)
    # Names sort by time; a record is renamed into place so that a reader never sees half of one.
    path = folder / f"{time.time_ns():020d}-{plan.recipe.name}.json"
    partial = path.with_name(f".{uuid.uuid4().hex}")
    write_json(partial, record)
    partial.replace(path)


def _backend(plan: Plan | PytorchPlan) -> str:
    """Runs are compared within one engine backend; `pytorch` where there is no engine."""
    return "pytorch" if isinstance(plan, PytorchPlan) else plan.engine.name


def _checkpoint_bytes(plan: Plan | PytorchPlan) -> int:
    """Size of the model: the target's where one is written."""
    if isinstance(plan, PytorchPlan):
        return plan.checkpoint.weight_bytes
    return plan.conversion.target_bytes


def past_seconds(plan: Plan | PytorchPlan, store: Store) -> dict[str, float]:
    """Seconds of each stage in its newest comparable run here; a stage that never ran is absent."""
    found: dict[str, float] = {}
    size = max(_checkpoint_bytes(plan), 1)
    for record in _newest_records(store):
        ratio = record["checkpoint_bytes"] / size
        if record["backend"] != _backend(plan) or not 1 / COMPARABLE <= ratio <= COMPARABLE:
            continue
        for stage in record["stages"]:
            if not stage["reused"]:
                found.setdefault(stage["stage"], stage["seconds"])
    return found


def _newest_records(store: Store) -> Iterator[Json]:
    """Records, newest first; one of another version, or damaged, says nothing and is passed by."""
    paths = sorted((store.root / "runs").glob("[0-9]*.json"), reverse=True)
    for path in paths[:KEPT_RECORDS]:
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and {"backend", "checkpoint_bytes", "stages"} <= record.keys():
            yield record
