"""What `plan` answers about a package without an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.answers.plan_report import shared_document, shared_text, source_text
from pipeline.artifact import Json
from pipeline.console import format_bytes
from pipeline.errors import Problem
from pipeline.pytorch_plan import PytorchPlan
from pipeline.release.pytorch_carry import keys_in_vain
from pipeline.run import StageState
from pipeline.store import Store


def pytorch_plan_document(
    plan: PytorchPlan, states: Sequence[StageState], problems: Sequence[Problem], store: Store
) -> dict[str, Json]:
    """Everything that the plan resolved, JSON; keys that every plan has are the same."""
    return {
        **shared_document(plan, states, problems, store),
        "checkpoint": {
            "architecture": plan.checkpoint.architecture,
            "num_tensors": len(plan.checkpoint.tensors),
            "source_bytes": plan.checkpoint.weight_bytes,
        },
        "serve": {
            "options": dict(plan.carriage.options),
            "without_meaning": dict(plan.carriage.idle),
        },
    }


def pytorch_plan_text(document: dict[str, Json], problems: Sequence[Problem]) -> str:
    """The plan for people."""
    checkpoint, serve = document["checkpoint"], document["serve"]
    rows = {
        "source": source_text(document["source"]),
        "model": f"{checkpoint['architecture']}, passed on as it is: "
        f"{checkpoint['num_tensors']} tensors, {format_bytes(checkpoint['source_bytes'])}",
        "serve": _options(serve["options"]),
        "ignored": ", ".join(keys_in_vain(serve["without_meaning"]))
        or "nothing that the recipe sets",
        "attention": "not built, not observed: there is no engine",
    }
    heading = f"plan of {document['recipe']['name']}, without an engine"
    return shared_text(heading, rows, document, (), problems)


def _options(options: Mapping[str, Json]) -> str:
    """The limits and the layout, as `serve.yaml` spells them."""
    told = ("max_batch_size", "max_num_tokens", "max_seq_len", "tensor_parallel_size")
    return ", ".join(f"{key} {options[key]}" for key in told)
