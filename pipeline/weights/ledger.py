"""The two ledgers of a conversion: what became of every source tensor and of every config key."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.artifact import Json
from pipeline.weights.layout import ConversionPlan
from pipeline.weights.rules import fill


def ledgers(plan: ConversionPlan) -> dict[str, Json]:
    """`tensors`: source name -> its targets and their ranks, or why it was dropped.

    `config`: key of the source's config.json -> its use. Holds nothing that differs by run.
    """
    return {"tensors": dict(sorted(_tensors(plan).items())), "config": plan.translation.ledger}


def count_tensors(plan: ConversionPlan) -> dict[str, int]:
    """How many source tensors are used, cast and dropped."""
    used = {info for making in plan.coverage.makings for info in making.sources}
    cast = {
        info.name
        for making in plan.coverage.makings
        for info in making.sources
        if info.dtype != (making.rule.dtype or plan.dtype)
    }
    return {"used": len(used), "cast": len(cast), "dropped": len(plan.coverage.dropped)}


def _tensors(plan: ConversionPlan) -> dict[str, Json]:
    ledger: dict[str, Json] = {
        name: {"dropped": because} for name, because in plan.coverage.dropped.items()
    }
    for source, target, ranks in _uses(plan):
        uses = ledger.setdefault(source, {"used_by": []})["used_by"]
        uses.append({"target": target, "ranks": ranks})
    return ledger


def _uses(plan: ConversionPlan) -> Iterator[tuple[str, str, list[int]]]:
    """(source, target, ranks) of every use, by the ranks' own layer numbers."""
    parallelism = plan.parallelism
    num_layers = plan.config["num_hidden_layers"]
    held = [parallelism.layers(pp_rank, num_layers) for pp_rank in range(parallelism.pp_size)]
    for making in plan.coverage.makings:
        layer, rule = making.layer, making.rule
        if layer is not None:
            places = [pp_rank for pp_rank, layers in enumerate(held) if layer in layers]
        else:
            every = range(parallelism.pp_size)
            places = {"first": [0], "last": [parallelism.pp_size - 1]}.get(rule.on or "", [*every])
        first = held[places[0]].start
        target = fill(rule.target, None if layer is None else layer - first)
        tp_ranks = range(parallelism.tp_size)
        ranks = [
            parallelism.file_number(place, tp_rank) for place in places for tp_rank in tp_ranks
        ]
        for info in making.sources:
            yield info.name, target, ranks
