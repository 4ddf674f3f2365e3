"""The stored checkpoints, and in which layouts each can be converted."""

from __future__ import annotations

from pathlib import Path

from pipeline.checkpoint.huggingface import SourceCheckpoint, open_source_checkpoint
from pipeline.errors import RecipeError
from pipeline.families import find_family
from pipeline.weights.layout import plan_conversion
from pipeline.weights.parallel import Parallelism

FIXTURES = Path(__file__).parent.parent / "fixtures"

NAMES = sorted(path.name for path in FIXTURES.iterdir())

LAYOUTS = (
    Parallelism(),
    Parallelism(2),
    Parallelism(1, 2),
    Parallelism(2, 2),
    Parallelism(2, moe_ep_size=2),
    Parallelism(2, embedding_dim=0),
    Parallelism(2, embedding_dim=1),
)


def layouts(source: SourceCheckpoint) -> list[Parallelism]:
    """Those of LAYOUTS that fit.

    All fixtures fit the first four, unless TensorRT-LLM's class knows no pipeline parallelism.
    """
    fitting = []
    for parallelism in LAYOUTS:
        fault = _fault(source, parallelism)
        if fault is None:
            fitting.append(parallelism)
        else:
            optional = parallelism.moe_ep_size > 1 or parallelism.embedding_dim is not None
            assert optional or "computes all layers on each rank" in fault
    return fitting


def _fault(source: SourceCheckpoint, parallelism: Parallelism) -> str | None:
    try:
        plan_conversion(source, find_family(source.architecture), parallelism, "bfloat16")
    except RecipeError as error:
        return error.message
    return None


def open_fixture(name: str) -> SourceCheckpoint:
    """A stored checkpoint, headers only."""
    return open_source_checkpoint(FIXTURES / name)
