"""An engine's greedy tokens and prompt logits beside those of a reference, prompt by prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from pipeline.artifact import Json
from pipeline.engines.generation import Generation
from pipeline.engines.generator import GenerationRequest, Generator
from pipeline.errors import VerificationError
from pipeline.recipe.smoke_section import Compare

if TYPE_CHECKING:
    from pipeline.engines.generation import Logits

NO_LOGITS = "not compared: the engine gives none (it needs `engine.gather_context_logits: true`)"

SHOWN_TOKENS = 6
"""Token ids that a message shows from the first difference on."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One prompt. `first_difference`: the number of equal tokens, or None where all are equal.

    `logit_error`: the largest absolute difference over all tokens of the prompt; None where one
    side has no logits.
    """

    index: int
    engine: tuple[int, ...]
    reference: tuple[int, ...]
    first_difference: int | None
    logit_error: float | None

    def as_json(self) -> dict[str, Json]:
        """For the smoke record."""
        return {
            "first_difference": self.first_difference,
            "reference_token_ids": list(self.reference),
            "max_logit_error": self.logit_error,
        }


def compare(
    engine: Sequence[Generation], reference: Sequence[Generation], vocab_size: int
) -> list[Comparison]:
    """Both in the order of the prompts. Engines may pad their logits beyond `vocab_size`."""
    return [
        Comparison(
            index,
            one.token_ids,
            other.token_ids,
            _first_difference(one.token_ids, other.token_ids),
            _logit_error(one.prompt_logits, other.prompt_logits, vocab_size),
        )
        for index, (one, other) in enumerate(zip(engine, reference, strict=True))
    ]


def compare_with(
    reference: Generator,
    requests: Sequence[GenerationRequest],
    generations: Sequence[Generation],
    wanted: Compare,
    vocab_size: int,
) -> dict[str, Json]:
    """Give a reference the requests that an engine has answered; the comparison for the record.

    Raises VerificationError where they differ by more than `wanted` allows.
    """
    has_logits = all(generation.prompt_logits is not None for generation in generations)
    asked = [replace(request, wants_logits=has_logits) for request in requests]
    found = compare(generations, reference.generate(asked), vocab_size)
    differences = faults(found, wanted)
    if differences:
        raise VerificationError(
            "the engine differs from the same checkpoint on ONNX Runtime by more than "
            "`smoke.compare` allows",
            facts=differences,
            hint="float16 and bfloat16 round: where the texts are right, allow more; a wrong layer "
            "shows from the first token on",
        )
    return {
        "compared": True,
        "executed_by": dict(reference.executed_by),
        "logits": "of all prompt tokens" if has_logits else NO_LOGITS,
        "prompts": [one.as_json() for one in found],
    }


def faults(found: Sequence[Comparison], wanted: Compare) -> list[str]:
    """Lines that say which prompts differ by more than the recipe allows; empty: none."""
    return [line for one in found for line in _faults(one, wanted)]


def _faults(one: Comparison, wanted: Compare) -> Iterator[str]:
    name, place = f"`smoke.prompts[{one.index}]`", one.first_difference
    if place is not None and place < wanted.min_equal_tokens:
        yield f"{name}: the tokens differ from token {place} on"
        yield f"  engine    {_shown(one.engine, place)}"
        yield f"  reference {_shown(one.reference, place)}"
    limit, error = wanted.max_logit_error, one.logit_error
    # Written so that an error which is no number is a fault too.
    if limit is not None and error is not None and not error <= limit:
        yield f"{name}: the logits of the prompt differ by {error:g}, allowed are {limit:g}"


def _shown(token_ids: Sequence[int], place: int) -> str:
    tokens = [str(token_id) for token_id in token_ids[place : place + SHOWN_TOKENS]]
    before = "... " if place else ""
    after = " ..." if len(token_ids) > place + SHOWN_TOKENS else ""
    return f"{before}{' '.join(tokens) or '(nothing)'}{after}"


def _first_difference(engine: Sequence[int], reference: Sequence[int]) -> int | None:
    pairs = enumerate(zip_longest(engine, reference))
    return next((place for place, (one, other) in pairs if one != other), None)


def _logit_error(engine: Logits | None, reference: Logits | None, vocab_size: int) -> float | None:
    """Three digits: the last ones follow the processor that computed the reference."""
    import numpy as np

    if engine is None or reference is None:
        return None
    differences = np.abs(engine[:, :vocab_size] - reference[:, :vocab_size])
    return float(f"{differences.max():.3g}")
