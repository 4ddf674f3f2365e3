"""The decoder graph of a converted checkpoint on the CPU, in float32: what engines are held to.

It is executed in an engine's place where that cannot run, and beside it for a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines.generator import SessionGenerator
from pipeline.engines.long_rotary import with_long_rotary
from pipeline.errors import MachineError, PipelineError, Problem, RecipeError
from pipeline.graph.config import graph_problems
from pipeline.recipe.schema import EngineSettings
from pipeline.recipe.smoke_section import Compare


def open_reference(checkpoint_dir: Path, settings: EngineSettings) -> SessionGenerator:
    """Write the graph anew, with the engine's limits, and load it: same nodes, float32.

    Raises RecipeError where the graph cannot express the model (see `reference_problems`).
    """
    from pipeline.engines.onnxruntime.cpu_session import Limits, open_session
    from pipeline.graph.decoder import GraphOptions, decoder_model

    options = GraphOptions(settings.max_seq_len, "float32", fixed_cache=False, flat_linear=True)
    checkpoint = open_trtllm_checkpoint(checkpoint_dir)
    model, _ = decoder_model(checkpoint, options)
    limits = Limits(settings.max_batch_size, settings.max_seq_len)
    session = open_session(model.SerializeToString(), checkpoint_dir, limits)
    return SessionGenerator(with_long_rotary(session, checkpoint.config))


def reference_problems(
    config: Mapping[str, Json],
    settings: EngineSettings,
    compare: Compare | None,
    reason: str | None,
) -> list[Problem]:
    """Why a smoke test that needs this graph cannot be had, for a checkpoint's config.json.

    It is needed beside the engine for `smoke.compare`, and in the engine's place where that cannot
    be executed here (`reason`). For backends that build from the graph, that there is none is a
    problem of the build already.
    """
    on_cpu = settings.device == "cpu"
    if compare is not None and compare.backend == settings.backend and on_cpu:
        message = f"`smoke.compare.backend` is `{compare.backend}`, which is the engine's own"
        return [Problem("smoke", message, "remove `smoke.compare`, or build with another backend")]
    if settings.backend != "trtllm":
        return []
    if reason is not None:
        hint = "run the smoke test on a machine that can execute the engine"
        found = graph_problems(config, settings.max_seq_len)
        return [_told(f"in the engine's place: {reason}", one, hint, MachineError) for one in found]
    if compare is None:
        return []
    if compare.max_logit_error is not None and not settings.gather_context_logits:
        message = "`smoke.compare.max_logit_error` is set, but the engine gives no prompt logits"
        hint = "set `engine.gather_context_logits: true`, or remove `max_logit_error`"
        return [Problem("smoke", message, hint)]
    found = graph_problems(config, settings.max_seq_len)
    hint = "remove `smoke.compare`"
    return [_told("`smoke.compare` compares with it", one, hint, RecipeError) for one in found]


def _told(wanted: str, problem: Problem, hint: str, kind: type[PipelineError]) -> Problem:
    """A problem of the graph as one of the smoke test, which wants it for something."""
    message = f"the smoke test needs the decoder graph ({wanted}): {problem.message}"
    return replace(problem, stage="smoke", message=message, hint=hint, kind=kind)
