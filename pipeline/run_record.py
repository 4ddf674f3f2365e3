"""The run record: what differs from run to run, kept in the store and never inside a release.

Records of earlier runs also tell a plan how long its stages took here for a model of this size.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from pipeline import __version__
from pipeline.artifact import Json, encode_json
from pipeline.files.durable import write_atomic
from pipeline.plan import Plan
from pipeline.pytorch_plan import PytorchPlan
from pipeline.redaction import redact_value
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
    # Names sort by time.
    path = store.make_folder("runs") / f"{time.time_ns():020d}-{plan.recipe.name}.json"
    try:
        write_atomic(path, encode_json(redact_value(record)))
    except OSError as error:
        raise store.refusal(error) from None


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
        try:
            ratio = record["checkpoint_bytes"] / size
            is_like = 1 / COMPARABLE <= ratio <= COMPARABLE
            if record["backend"] == _backend(plan) and is_like:
                worked = [stage for stage in record["stages"] if not stage["reused"]]
                found = {str(s["stage"]): float(s["seconds"]) for s in worked} | found
        except (KeyError, TypeError, ValueError):
            continue  # of another version, or damaged: it says nothing
    return found


def _newest_records(store: Store) -> Iterator[Json]:
    """Records, newest first, of any version; what is no JSON is passed by."""
    paths = sorted((store.root / "runs").glob("[0-9]*.json"), reverse=True)
    for path in paths[:KEPT_RECORDS]:
        with suppress(OSError, ValueError, RecursionError):
            yield json.loads(path.read_bytes())
