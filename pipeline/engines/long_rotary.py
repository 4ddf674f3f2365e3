"""Sequences that outgrow the trained length of `longrope`, over any session of a decoder graph.

Such a model reads a sequence with its short factors while it is within the trained length, and with
its long ones beyond, from the first token on: what the cache holds is then of no use, and the
sequence is read again, as transformers does. (transformers goes by the longest sequence of a batch;
here each goes by its own length, so that its neighbours change nothing.)
Source: transformers 5.24, `models/phi3/modeling_phi3.py`, prepare_inputs_for_generation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from pipeline.artifact import Json
from pipeline.engines.generation import Session
from pipeline.graph.config import read_decoder
from pipeline.graph.rotary_description import original_length, uses_two_tables

if TYPE_CHECKING:
    from pipeline.engines.generation import Logits


class PlacedSession(Session, Protocol):
    """A session of a decoder graph whose sequences may read other rows of the rotary tables."""

    def start(
        self, prompts: Sequence[Sequence[int]], position_offsets: Sequence[int] | None = None
    ) -> Logits:
        """As of any session; `position_offsets`, one per prompt, are added to `position_ids`.

        They hold for all steps until the next start, and move neither slots nor masks. None: 0.
        """


def with_long_rotary(session: PlacedSession, config: Mapping[str, Json]) -> Session:
    """The session, such that sequences of any length read the rows that are right for them.

    `config` is that of the checkpoint whose graph the session executes, written for the session's
    `max_seq_len`. Raises RecipeError where it is not one that the decoder graph can express.
    """
    rotaries = [attention.rotary for attention in read_decoder(config).attentions.values()]
    lengths = {
        original_length(rotary)
        for rotary in rotaries
        if rotary is not None and uses_two_tables(rotary, session.max_seq_len)
    }
    if not lengths:
        return session
    (trained_tokens,) = lengths  # layers share the rotary positions of a long rope
    assert trained_tokens is not None
    return LongRotarySession(session, trained_tokens)


class LongRotarySession:
    """A `Session` that reads a sequence again where it passes `trained_tokens`.

    The whole batch is read again then: sessions cannot read one of its sequences alone. `inner`
    has two tables of positions, see `graph.rotary_description.uses_two_tables`.
    """

    def __init__(self, inner: PlacedSession, trained_tokens: int) -> None:
        assert 1 <= trained_tokens < inner.max_seq_len
        self.inner = inner
        self.max_batch_size = inner.max_batch_size
        self.max_seq_len = inner.max_seq_len
        self._trained_tokens = trained_tokens
        self._sequences: list[list[int]] = []

    @property
    def executed_by(self) -> Mapping[str, str]:
        """What computes, for records."""
        return self.inner.executed_by

    def start(self, prompts: Sequence[Sequence[int]]) -> Logits:
        """Read the prompts; logits `[batch, vocab_size]` after each one's last token."""
        self._sequences = [list(prompt) for prompt in prompts]
        return self._read()

    def step(self, token_ids: Sequence[int]) -> Logits:
        """Append one token to each sequence; logits `[batch, vocab_size]` after it."""
        passed = False
        for sequence, token_id in zip(self._sequences, token_ids, strict=True):
            if len(sequence) < self.max_seq_len:  # else it is padding now
                sequence.append(token_id)
                passed = passed or len(sequence) == self._trained_tokens + 1
        return self._read() if passed else self.inner.step(token_ids)

    def _read(self) -> Logits:
        """Read all sequences from their start, each at the rows that are right for its length."""
        offsets = [
            self.max_seq_len if len(sequence) > self._trained_tokens else 0
            for sequence in self._sequences
        ]
        return self.inner.start(self._sequences, offsets)
