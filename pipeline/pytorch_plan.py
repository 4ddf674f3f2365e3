"""The plan of a package without an engine: the source as it is, and how `trtllm-serve` runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.checkpoint.huggingface import CONFIG_NAME
from pipeline.errors import Problem
from pipeline.hardware import Hardware
from pipeline.plan import Need, SourcePlan
from pipeline.progress import no_note
from pipeline.recipe.fitted_limits import fit_limits
from pipeline.recipe.load import LoadedRecipe
from pipeline.recipe.schema import Recipe
from pipeline.release.pytorch_carry import Carriage, carry
from pipeline.sources import AnySource, Pin, open_source
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.selection import (
    TOKENIZER_CONFIG_NAME,
    TOKENIZER_NAMES,
    remote_code_references,
)

POSITION_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
"""How configs of Hugging Face spell it."""


@dataclass(frozen=True)
class PytorchPlan(SourcePlan):
    """A recipe with `package.kind: pytorch`, resolved. It has no family: nothing is converted."""

    carriage: Carriage


def resolve_pytorch(
    loaded: LoadedRecipe,
    *,
    memory: DigestMemory,
    hardware: Hardware,
    offline: bool = False,
    pin: Pin | None = None,
    note: Callable[[str], None] = no_note,
) -> PytorchPlan:
    """Resolve such a recipe: its source and the options of `trtllm-serve`; find what would fail.

    Any architecture will do: whether TensorRT-LLM's PyTorch backend has it is not known here.
    `pin` is what a lock says of the source, `note` is told where a site is asked once more. Raises
    RemoteError, RecipeError or VerificationError where the source cannot be read, or is not the one
    of a frozen lock.
    """
    source = open_source(
        loaded.recipe.source, loaded.base_dir, memory, offline=offline, pin=pin, note=note
    )
    checkpoint = source.checkpoint()
    positions = {"max_position_embeddings": _positions(checkpoint.config)}
    recipe = fit_limits(loaded.recipe, positions, None)
    carriage = carry(recipe)
    total_bytes = source.listing.total_bytes
    return PytorchPlan(
        recipe=recipe,
        source=source,
        checkpoint=checkpoint,
        hardware=hardware,
        needs={
            "download": Need(disk_bytes=total_bytes),
            # The release folder shares its files with the download's artifact.
            "package": Need(total_bytes if "tar" in recipe.package.formats else 0),
        },
        problems=(*carriage.problems, *_code_problems(recipe), *_source_problems(source)),
        carriage=carriage,
        pin=pin,
    )


def _positions(config: Mapping[str, Json]) -> Json:
    """The positions of a source's config.json, or None where it does not say (or not so)."""
    text = config.get("text_config")
    inside = text if isinstance(text, Mapping) else {}
    found = [part.get(key) for part in (config, inside) for key in POSITION_KEYS]
    return next((value for value in found if type(value) is int and value > 1), None)


def _code_problems(recipe: Recipe) -> list[Problem]:
    """Code of a source is executed to compare logits, which nothing does without an engine."""
    if not recipe.source.remote_code:
        return []
    return [
        Problem(
            "package",
            "`source.remote_code` is given, but a package of kind `pytorch` executes no code and "
            "carries none",
            hint="remove it",
        )
    ]


def _source_problems(source: AnySource) -> list[Problem]:
    """What `trtllm-serve` could not load: code of the model's authors, a missing tokenizer."""
    problems = []
    names = [name for name in (CONFIG_NAME, TOKENIZER_CONFIG_NAME) if source.listing.find(name)]
    references = remote_code_references({name: source.read_text(name) for name in names})
    if references:
        problems.append(
            Problem(
                "package",
                "the source points to Python code of its own, which is never executed",
                facts=tuple(references),
                hint="point `source` to a checkpoint that TensorRT-LLM loads by itself, or to a "
                "copy without these keys if you know that its own class computes the same",
            )
        )
    if not any(source.listing.find(name) for name in TOKENIZER_NAMES):
        problems.append(
            Problem(
                "package",
                "the source has no tokenizer, which `trtllm-serve` needs",
                hint="point `source` to a checkpoint with its `tokenizer.json`",
            )
        )
    return problems
