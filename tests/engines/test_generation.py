"""Generation: when it stops, how it chooses, and that neighbours in a batch never matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.engines.generation import Generation, Sampling, generate
from pipeline.errors import RecipeError

VOCAB_SIZE = 50


class CountingSession:
    """A session whose likeliest next token is the last one plus 1; it keeps what it is told."""

    max_batch_size = 2
    max_seq_len = 12
    executed_by: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []

    def start(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        self.batches.append([list(prompt) for prompt in prompts])
        return self._logits([prompt[-1] for prompt in prompts])

    def step(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        assert len(token_ids) == len(self.batches[-1])
        return self._logits(token_ids)

    def _logits(self, last: Sequence[int]) -> NDArray[np.float32]:
        distance = np.abs(np.arange(VOCAB_SIZE)[None, :] - (np.array(last)[:, None] + 1))
        return (-distance).astype(np.float32)


def test_greedy_stops_at_the_limit() -> None:
    (found,) = generate(CountingSession(), [[3, 4]], Sampling(max_new_tokens=3))
    assert found == Generation((5, 6, 7), "length")


def test_an_end_token_is_the_last_token() -> None:
    sampling = Sampling(max_new_tokens=9, stop_token_ids=frozenset({6, 30}))
    assert generate(CountingSession(), [[4]], sampling) == [Generation((5, 6), "end")]


def test_an_end_token_at_the_limit_is_an_end() -> None:
    sampling = Sampling(max_new_tokens=2, stop_token_ids=frozenset({6}))
    assert generate(CountingSession(), [[4]], sampling) == [Generation((5, 6), "end")]


def test_the_sequence_is_never_longer_than_the_engine_allows() -> None:
    (found,) = generate(CountingSession(), [[1] * 10], Sampling(max_new_tokens=9))
    assert found == Generation((2, 3), "length")


def test_the_caller_may_stop_a_sequence() -> None:
    seen: list[tuple[int, int]] = []

    def on_token(index: int, token_id: int) -> bool:
        seen.append((index, token_id))
        return (index, token_id) == (0, 6)

    found = generate(CountingSession(), [[4], [4]], Sampling(max_new_tokens=3), on_token)
    assert found == [Generation((5, 6), "stop"), Generation((5, 6, 7), "length")]
    assert seen == [(0, 5), (1, 5), (0, 6), (1, 6), (1, 7)]


def test_many_prompts_go_in_batches_with_their_own_limits() -> None:
    session = CountingSession()
    limits = [Sampling(max_new_tokens=n) for n in (1, 3, 2)]
    found = generate(session, [[1], [2, 3], [4]], limits)
    assert session.batches == [[[1], [2, 3]], [[4]]]
    assert [each.token_ids for each in found] == [(2,), (4, 5, 6), (5, 6)]


def test_prompts_that_do_not_fit_are_all_named() -> None:
    with pytest.raises(RecipeError, match="`max_seq_len` 12") as caught:
        generate(CountingSession(), [[1], [], [1] * 12], Sampling(max_new_tokens=1))
    assert caught.value.facts == ("prompt 1 has no tokens", "prompt 2 has 12 tokens")


def sampled(prompts: list[list[int]], **settings: Any) -> list[Generation]:
    how = Sampling(max_new_tokens=8, temperature=3.0, **settings)
    return generate(CountingSession(), prompts, how)


def test_sampling_repeats_and_depends_on_the_seed() -> None:
    first, second, other = (sampled([[20]], seed=seed)[0] for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_sampling_does_not_depend_on_the_batch() -> None:
    alone = sampled([[20]], seed=7)[0]
    beside = sampled([[33, 1], [20], [5]], seed=7)[1]
    assert alone == beside


def test_top_p_keeps_the_likeliest() -> None:
    greedy = generate(CountingSession(), [[20]], Sampling(max_new_tokens=8))[0]
    assert sampled([[20]], top_p=1e-9)[0] == greedy
    # At temperature 3 the likeliest token has 0.165 and the next two 0.118 each: 0.3 keeps three.
    for seed in range(40):
        token_ids = (20, *sampled([[20]], top_p=0.3, seed=seed)[0].token_ids)
        steps = np.diff(token_ids)
        assert set(steps.tolist()) <= {0, 1, 2}


def test_samples_follow_the_probabilities() -> None:
    draws = [
        generate(CountingSession(), [[20]], Sampling(1, temperature=1.0, seed=seed))[0].token_ids[0]
        for seed in range(2000)
    ]
    weights = np.exp(-np.abs(np.arange(VOCAB_SIZE) - 21.0))
    chances = weights / weights.sum()
    counts = np.bincount(draws, minlength=VOCAB_SIZE) / len(draws)
    assert np.abs(counts - chances).max() < 0.03
