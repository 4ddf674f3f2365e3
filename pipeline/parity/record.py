"""The record of a comparison of logits, told to people."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.artifact import Json

PHASES = ("prefill", "decoding")
"""All positions read at once; the last ones of each sequence read token by token."""


def told_layers(number: int) -> str:
    """`the first layer`, or `the first 4 layers`."""
    return "the first layer" if number == 1 else f"the first {number} layers"


def logits_text(record: Mapping[str, Json]) -> str:
    """For example `logits as transformers 5.24.0 gives them: cosine 1, norms off by 2e-07, ...`."""
    phases = [record[phase] for phase in PHASES]
    reference = record["reference"]
    layers = (
        "" if record["layers"] == record["of_layers"] else f" of {told_layers(record['layers'])}"
    )
    return (
        f"logits{layers} as {reference['backend']} {reference['version']} gives them "
        f"at {record['prefill']['positions']} positions: "
        f"cosine {min(phase['min_cosine'] for phase in phases):.9g}, "
        f"norms off by {max(phase['max_norm_error'] for phase in phases):.1g}, "
        f"relative error {max(phase['max_relative_error'] for phase in phases):.1g} at most"
    )


def logits_fields(record: Mapping[str, Json]) -> dict[str, str]:
    """Who computed what, and how far each phase is apart, for people."""
    reference, graph = record["reference"], record["executed_by"]
    return {
        "source": f"{reference['class']} of {reference['backend']} {reference['version']}, "
        f"torch {reference['torch']}, {reference['dtype']}",
        "converted": f"{graph['backend']} {graph['version']} on {graph['device']}, "
        f"{record['layers']} of {record['of_layers']} layers",
        **{phase: _figures(record[phase]) for phase in PHASES},
    }


def _figures(phase: Mapping[str, Json]) -> str:
    return (
        f"cosine {phase['min_cosine']:.9g}, norms off by {phase['max_norm_error']:.1g}, relative "
        f"error {phase['max_relative_error']:.1g} at worst, of {phase['positions']} positions"
    )
