"""The recipe's prompts as tokens with their limits, checked against engine and vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.engines.generation import Sampling
from pipeline.engines.generator import GenerationRequest
from pipeline.errors import RecipeError, VerificationError
from pipeline.recipe.schema import Recipe
from pipeline.recipe.smoke_section import Prompt
from pipeline.tokenizer import Tokenizer, encode


@dataclass(frozen=True)
class SmokePrompt:
    """One prompt of the recipe, with its tokens and its own limits."""

    number: int
    prompt: Prompt
    token_ids: tuple[int, ...]
    sampling: Sampling

    def request(self) -> GenerationRequest:
        """As the recipe wants it."""
        return GenerationRequest(self.token_ids, self.sampling)

    def greedy_request(self, *, wants_logits: bool) -> GenerationRequest:
        """The same with the likeliest tokens, for a comparison."""
        sampling = replace(self.sampling, temperature=0.0, top_p=1.0)
        return GenerationRequest(self.token_ids, sampling, wants_logits)


def smoke_prompts(
    recipe: Recipe, vocab_size: int, tokenizer: Tokenizer, ends: frozenset[int]
) -> list[SmokePrompt]:
    """All prompts of the recipe; `ends` are the tokens that end a generation.

    Raises RecipeError with all that do not fit the engine, VerificationError where the tokenizer
    is of another model.
    """
    smoke, engine = recipe.smoke, recipe.engine
    prompts, faults = [], []
    for number, prompt in enumerate(smoke.prompts):
        token_ids, name = encode(tokenizer, prompt.text), f"`smoke.prompts[{number}]`"
        limit = prompt.max_new_tokens or smoke.max_new_tokens
        if not token_ids:
            faults.append(f"{name} has no tokens")
        if len(token_ids) > engine.max_input_len:
            faults.append(
                f"{name} has {len(token_ids)} tokens, but `engine.max_input_len` is "
                f"{engine.max_input_len}"
            )
        if len(token_ids) + limit > engine.max_seq_len:
            faults.append(
                f"{name} has {len(token_ids)} tokens and asks for {limit} more, but "
                f"`engine.max_seq_len` is {engine.max_seq_len}"
            )
        sampling = Sampling(limit, smoke.temperature, smoke.top_p, smoke.seed, ends)
        prompts.append(SmokePrompt(number, prompt, tuple(token_ids), sampling))
    if faults:
        raise RecipeError(
            "the smoke test's prompts do not fit the engine",
            facts=faults,
            hint="shorten them, or raise the limits of `engine`",
        )
    _check_vocabulary(vocab_size, prompts)
    return prompts


def _check_vocabulary(vocab_size: int, prompts: Sequence[SmokePrompt]) -> None:
    """The tokenizer may know no token that the model has no embedding for."""
    unknown = sorted({token for one in prompts for token in one.token_ids if token >= vocab_size})
    if unknown:
        raise VerificationError(
            f"the tokenizer yields the token ids {unknown}, but the model's `vocab_size` is "
            f"{vocab_size}",
            hint="use the tokenizer that belongs to the model",
        )
