"""The job that the builder's child process gets: all that decides the engine, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.artifact import Json
from pipeline.engines.tensorrt.api import Flavour
from pipeline.engines.tensorrt.facts import ALONE_FAILS_FOR
from pipeline.engines.tensorrt.support import generation_tokens
from pipeline.recipe.schema import EngineSettings

if TYPE_CHECKING:
    # The graph's modules import onnx.
    from pipeline.graph.facts import GraphFacts, Port

GRAPH_NAME = "decoder.onnx"


def build_job(
    flavour: Flavour,
    config: Mapping[str, Json],
    settings: EngineSettings,
    facts: GraphFacts,
    network: Mapping[str, Json],
) -> dict[str, Json]:
    """Compile the graph for the recipe's targets and limits, attention fused unless turned off.

    `network`: what the parser must make of the graph (`tensorrt_graph.expected_network`).
    """
    return {
        "is_rtx": flavour.is_rtx,
        "modules": list(flavour.modules),
        "graph": GRAPH_NAME,
        "network": dict(network),
        "decomposable": not settings.attention.context_fmha,
        "targets": list(settings.targets),
        "flags": flags(settings),
        "profiles": [
            {port.name: _shapes(port, settings.max_batch_size, tokens) for port in facts.inputs}
            for tokens in profile_tokens(config, settings)
        ],
    }


def flags(settings: EngineSettings) -> list[str]:
    """`BuilderFlag`s by name.

    `REFIT_IDENTICAL`, not `REFIT`, which may lose the bias of a matrix product (TensorRT
    documentation, 11.3, Refitting an Engine): the same checkpoint puts its weights back.
    """
    found = ["STRIP_PLAN", "REFIT_IDENTICAL"] if settings.tensorrt.strip_weights else []
    return [*found, "VERSION_COMPATIBLE"] if settings.tensorrt.version_compatible else found


def profile_tokens(config: Mapping[str, Json], settings: EngineSettings) -> tuple[int, int]:
    """Most tokens of a step in the context profile and in the generation profile, in order."""
    generation = generation_tokens(config, settings)
    return max(settings.max_input_len, generation), generation


def _shapes(port: Port, batch: int, tokens: int) -> list[list[int]]:
    """Least, best and largest shape of an input; the engine is tuned for its limits.

    A batch that can only be 1 is compiled as up to 2 where steps are short: else TensorRT for RTX
    1.7.1 names two operators of the mask alike and fails (`facts.ALONE_FAILS_FOR`).
    """
    best = _shape(port, {"batch": batch, "seq": tokens})
    most = 2 if batch == 1 and tokens in ALONE_FAILS_FOR else batch
    return [
        _shape(port, {"batch": 1, "seq": 1}),
        best,
        _shape(port, {"batch": most, "seq": tokens}),
    ]


def _shape(port: Port, sizes: Mapping[str, int]) -> list[int]:
    return [sizes[dim] if isinstance(dim, str) else dim for dim in port.dims]
