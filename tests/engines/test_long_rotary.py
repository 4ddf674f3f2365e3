"""Sequences that pass the trained length while they are being continued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.engines.generation import Sampling, generate
from pipeline.engines.long_rotary import LongRotarySession, with_long_rotary
from tests.families.fixtures import FIXTURES
from tests.weights.converting import plan

TRAINED, MAX_SEQ_LEN, VOCAB_SIZE = 6, 16, 31


class CachingSession:
    """Its logits depend on the row of every token in the cache, and on the order of the tokens."""

    max_batch_size = 3
    max_seq_len = MAX_SEQ_LEN
    executed_by: Mapping[str, str] = {"backend": "none"}

    def __init__(self) -> None:
        self.num_starts = 0
        self.caches: list[list[tuple[int, int]]] = []
        self.offsets: list[int] = []

    def start(
        self, prompts: Sequence[Sequence[int]], position_offsets: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        self.num_starts += 1
        self.offsets = list(position_offsets or [0] * len(prompts))
        assert len(self.offsets) == len(prompts)
        self.caches = [
            [(offset + i, token) for i, token in enumerate(prompt)]
            for offset, prompt in zip(self.offsets, prompts, strict=True)
        ]
        return self._logits()

    def step(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        for cache, offset, token in zip(self.caches, self.offsets, token_ids, strict=True):
            if len(cache) == MAX_SEQ_LEN:
                cache.pop()
            cache.append((offset + len(cache), token))
        return self._logits()

    def _logits(self) -> NDArray[np.float32]:
        seeds = [[value for entry in cache for value in entry] for cache in self.caches]
        rows = [np.random.default_rng(seed).standard_normal(VOCAB_SIZE) for seed in seeds]
        return np.array(rows, dtype=np.float32)


def read_at_once(tokens: Sequence[int]) -> NDArray[np.float32]:
    """Logits after a sequence that is read anew, with the rows that belong to its length."""
    offset = MAX_SEQ_LEN if len(tokens) > TRAINED else 0
    logits: NDArray[np.float32] = CachingSession().start([tokens], [offset])[0]
    return logits


def test_every_step_equals_reading_the_whole_sequence() -> None:
    session = LongRotarySession(CachingSession(), TRAINED)
    texts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11]]
    logits = session.start(texts)
    for step in range(9):
        for row, text in zip(logits, texts, strict=True):
            assert np.array_equal(row, read_at_once(text))
        for text in texts:
            text.append(step)
        logits = session.step([step] * 3)


def test_a_batch_is_read_again_only_where_a_sequence_passes() -> None:
    inner = CachingSession()
    session = LongRotarySession(inner, TRAINED)
    session.start([[1, 2, 3], [1, 2, 3], [1, 2, 3, 4, 5, 6, 7]])
    for _ in range(8):
        session.step([1, 1, 1])
    assert inner.num_starts == 2
    assert inner.offsets == [MAX_SEQ_LEN] * 3


def test_neighbours_change_nothing() -> None:
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16]]
    sampling = Sampling(max_new_tokens=MAX_SEQ_LEN)
    together = generate(LongRotarySession(CachingSession(), TRAINED), prompts, sampling)
    for prompt, generation in zip(prompts, together, strict=True):
        alone = generate(LongRotarySession(CachingSession(), TRAINED), [prompt], sampling)
        assert alone == [generation]
        assert len(prompt) + len(generation.token_ids) == MAX_SEQ_LEN


def test_a_full_sequence_is_padding() -> None:
    inner = CachingSession()
    session = LongRotarySession(inner, TRAINED)
    session.start([[1] * (MAX_SEQ_LEN - 1), [2] * (TRAINED - 2)])
    for token in range(3):
        logits = session.step([token, token])
    assert np.array_equal(logits[1], read_at_once([2] * (TRAINED - 2) + [0, 1, 2]))
    assert inner.num_starts == 2


def test_it_is_for_sessions_that_are_longer_than_the_training() -> None:
    with pytest.raises(AssertionError):
        LongRotarySession(CachingSession(), MAX_SEQ_LEN)


class Placed(CachingSession):
    def __init__(self, max_seq_len: int) -> None:
        super().__init__()
        self.max_seq_len = max_seq_len


@pytest.mark.parametrize("name", ["phi3-longrope", "phimoe", "phi4-mini", "phi3small-128k"])
def test_a_session_is_wrapped_where_its_graph_has_two_tables(name: str) -> None:
    config = plan(FIXTURES / name).config
    trained = config["original_max_position_embeddings"]
    longer, enough = Placed(trained + 1), Placed(trained)
    assert isinstance(with_long_rotary(longer, config), LongRotarySession)
    assert with_long_rotary(enough, config) is enough


@pytest.mark.parametrize("name", ["llama", "phi3", "bloom"])
def test_other_sessions_stay_as_they_are(name: str) -> None:
    session = Placed(1 << 20)
    assert with_long_rotary(session, plan(FIXTURES / name).config) is session
