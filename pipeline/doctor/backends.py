"""What each engine backend can do on this machine, in its own words."""

from __future__ import annotations

from pydantic import ValidationError

from pipeline.artifact import Json
from pipeline.engines import BACKENDS, find_engine
from pipeline.hardware import Hardware
from pipeline.recipe.schema import EngineSettings


def backend_facts(hardware: Hardware) -> dict[str, Json]:
    """Backend -> `builds`, `why_not`, `tools`, and `runs`: one row for each kind of GPU here.

    A row's `why_not` is about engines for that target, with default settings. Without a GPU there
    is one row, for a recipe's default targets.
    """
    return {name: _facts(name, hardware) for name in BACKENDS}


def _facts(name: str, hardware: Hardware) -> dict[str, Json]:
    engine = find_engine(name)
    why_not = engine.why_unavailable(hardware)
    targets: list[str | None] = [*sorted(hardware.targets)] or [None]
    rows = [_runs(name, target, hardware) for target in targets]
    return {
        "builds": why_not is None,
        "why_not": why_not,
        "tools": engine.tool_versions(),
        "runs": rows,
    }


def _runs(name: str, target: str | None, hardware: Hardware) -> dict[str, Json]:
    chosen = {} if target is None else {"targets": (target,)}
    try:
        settings = EngineSettings.model_validate({"backend": name, **chosen})
    except ValidationError:
        return {"target": target, "runs": False, "why_not": f"`{target}` is not a known target"}
    why_not = find_engine(name).why_not_runnable(settings, hardware)
    if target is None and why_not is not None:
        # There is no engine whose target could be told, only what is here instead.
        why_not = why_not.rpartition("; present: ")[2]
    return {"target": target, "runs": why_not is None, "why_not": why_not}
