"""The seam over engines that give logits step by step, and over whole texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.engines.generation import Sampling
from pipeline.engines.generator import GenerationRequest, SessionGenerator, cut

VOCAB = 7


class Counting:
    """The likeliest token is the last one plus one; a prompt's logits say which tokens were read.

    It gives the same array each time, as a session may.
    """

    max_batch_size = 2
    max_seq_len = 12
    executed_by = {"backend": "counting", "version": "1", "device": "none", "note": ""}  # noqa: RUF012

    def __init__(self) -> None:
        self._read: list[list[int]] = []
        self._logits = np.zeros((0, VOCAB), dtype=np.float32)

    def start(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Read the prompts."""
        self._read = [list(prompt) for prompt in prompts]
        self._logits = np.zeros((len(prompts), VOCAB), dtype=np.float32)
        return self._answer()

    def step(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Read one more token of each."""
        for read, token_id in zip(self._read, token_ids, strict=True):
            read.append(token_id)
        return self._answer()

    def _answer(self) -> NDArray[np.float32]:
        self._logits[:] = 0
        for row, read in enumerate(self._read):
            self._logits[row, (read[-1] + 1) % VOCAB] = len(read)
        return self._logits


def test_a_session_becomes_a_generator() -> None:
    sampling = Sampling(3)
    requests = [GenerationRequest(prompt, sampling) for prompt in ((1,), (2, 4), (5,))]
    with SessionGenerator(Counting()) as generator:
        found = generator.generate(requests, lambda index, token: index == 2 and token == 6)
        assert generator.executed_by["backend"] == "counting"
        assert generator.observed() is None
    assert [one.token_ids for one in found] == [(2, 3, 4), (5, 6, 0), (6,)]
    assert [one.stop_reason for one in found] == ["length", "length", "stop"]
    assert all(one.prompt_logits is None for one in found)


def test_prompt_logits_are_those_after_each_token() -> None:
    request = GenerationRequest((1, 4, 2), Sampling(2), wants_logits=True)
    (found,) = SessionGenerator(Counting()).generate([request])
    assert found.token_ids == (3, 4)
    assert found.prompt_logits is not None
    assert found.prompt_logits.shape == (3, VOCAB)
    assert found.prompt_logits.argmax(axis=1).tolist() == [2, 5, 3]
    assert found.prompt_logits.max(axis=1).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("ends", "stop_at", "expected"),
    [
        ((), None, ((4, 5, 6), "length")),
        ((5,), None, ((4, 5), "end")),
        ((6,), None, ((4, 5, 6), "end")),
        ((), 5, ((4, 5), "stop")),
        ((5,), 5, ((4, 5), "end")),
        ((6,), 4, ((4,), "stop")),
    ],
)
def test_whole_texts_are_cut_as_if_they_were_generated(
    ends: tuple[int, ...], stop_at: int | None, expected: tuple[tuple[int, ...], str]
) -> None:
    seen = []

    def on_token(index: int, token_id: int) -> bool:
        seen.append((index, token_id))
        return token_id == stop_at

    sampling = Sampling(9, stop_token_ids=frozenset(ends))
    assert cut(3, [4, 5, 6], sampling, on_token) == expected
    assert seen == [(3, token_id) for token_id in expected[0]]
    assert cut(0, [4], Sampling(9), None) == ((4,), "length")
