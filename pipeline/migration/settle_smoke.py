"""The prompts of `run.py` as the smoke test of a recipe."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.artifact import Json
from pipeline.migration.draft import Draft, number_of
from pipeline.migration.programs import Given, Invocation

MAX_PROMPTS = 20


def settle_smoke(draft: Draft, runs: Sequence[Invocation]) -> None:
    """Take prompts and lengths of the runs of an engine. The smoke test is greedy, as `run.py` is
    by default; what it expects of the text, nobody can know from a command."""
    prompts: list[Json] = []
    longest = 0
    for run in runs:
        draft.take(run)
        for given in draft.facts.pop("~prompts", []):
            prompts += _prompts(draft, given)
        for given in draft.facts.pop("~max_new_tokens", []):
            longest = max(longest, _new_tokens(draft, given))
        for given in draft.facts.pop("~engine_dir", []):
            assert given.row is not None
            draft.answer(given, "decided", given.row.why)
    unique = list(dict.fromkeys(str(prompt) for prompt in prompts))
    if unique:
        draft.set("smoke.prompts", unique[:MAX_PROMPTS])
    if longest:
        draft.set("smoke.max_new_tokens", longest)


def _prompts(draft: Draft, given: Given) -> list[Json]:
    known = [value.text for value in given.values if not value.unknown and value.text.strip()]
    if len(known) == len(given.values):
        draft.answer(given, "renamed", "`smoke.prompts`")
    else:
        draft.answer(given, "at run time", "the script does not say the text: it is left out")
    return list(known)


def _new_tokens(draft: Draft, given: Given) -> int:
    value = number_of(given)
    limit = draft.values.get("engine.max_seq_len")
    if given.unknown or value is None or value < 1:
        draft.answer(given, "at run time", "the script does not say how many: it is left out")
        return 0
    if isinstance(limit, int) and value >= limit:
        why = f"prompt and output have {limit} tokens together: it is left out"
        draft.answer(given, "contradictory", why)
        return 0
    draft.answer(given, "renamed", "`smoke.max_new_tokens`")
    return value
