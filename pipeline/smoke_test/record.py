"""What came out of a smoke test: expectations held against it, and the record of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.artifact import Json
from pipeline.engines.expectations import Outcome, check
from pipeline.engines.generation import Generation
from pipeline.errors import VerificationError
from pipeline.recipe.smoke_section import Smoke
from pipeline.smoke_test.prompts import SmokePrompt
from pipeline.tokenizer import TextStream

RECORD_NAME = "smoke.json"


def check_expectations(
    prompts: Sequence[SmokePrompt],
    streams: Sequence[TextStream],
    generations: Sequence[Generation],
) -> list[list[Outcome]]:
    """The outcomes of each prompt. Raises VerificationError with all that do not hold."""
    outcomes = [
        check(each.prompt.expect, stream.text, generation)
        for each, stream, generation in zip(prompts, streams, generations, strict=True)
    ]
    _raise_failures(prompts, outcomes)
    return outcomes


def _raise_failures(prompts: Sequence[SmokePrompt], outcomes: Sequence[Sequence[Outcome]]) -> None:
    """Raise VerificationError with every expectation that does not hold, prompt by prompt."""
    facts = []
    for each, found in zip(prompts, outcomes, strict=True):
        faults = [fault for outcome in found for fault in outcome.faults]
        if faults:
            facts.append(f"`smoke.prompts[{each.number}]`, {each.prompt.text!r}:")
            facts += [f"  {fault}" for fault in faults]
    if facts:
        failed = sum(bool(outcome.faults) for found in outcomes for outcome in found)
        total = sum(len(found) for found in outcomes)
        raise VerificationError(
            f"{failed} of {total} expectations of the smoke test do not hold",
            facts=facts,
            hint="a wrong weight shows here; where the model is right, correct `smoke.prompts`",
        )


def smoke_record(
    smoke: Smoke,
    executed_by: Mapping[str, str],
    prompts: Sequence[SmokePrompt],
    streams: Sequence[TextStream],
    generations: Sequence[Generation],
    outcomes: Sequence[Sequence[Outcome]],
) -> dict[str, Json]:
    """The generation record: what was asked, what came, what computed it. No timings."""
    return {
        "executed_by": dict(executed_by),
        "sampling": {
            "temperature": smoke.temperature,
            "top_p": smoke.top_p,
            "seed": smoke.seed,
            "end_token_ids": sorted(prompts[0].sampling.stop_token_ids),
        },
        "prompts": [
            _entry(each, stream.text, generation, found)
            for each, stream, generation, found in zip(
                prompts, streams, generations, outcomes, strict=True
            )
        ],
    }


def _entry(
    each: SmokePrompt, text: str, generation: Generation, outcomes: Sequence[Outcome]
) -> dict[str, Json]:
    return {
        "prompt": each.prompt.text,
        "prompt_token_ids": list(each.token_ids),
        "max_new_tokens": each.sampling.max_new_tokens,
        "stop": list(each.prompt.stop),
        "text": text,
        "token_ids": list(generation.token_ids),
        "stop_reason": generation.stop_reason,
        "expectations": [outcome.as_json() for outcome in outcomes],
    }
