"""The token sequences that both checkpoints read: seeded random ones, and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_TEXT = "Shall I compare thee to a summer's day? Thou art more lovely and more temperate."

DECODED_TOKENS = 4
"""Last tokens of each sequence that are read once more, one by one: decoding against prefill."""


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One sequence. `told` is what it is called in records and errors."""

    told: str
    token_ids: tuple[int, ...]


def random_sequences(
    vocab_size: int, num_prompts: int, num_tokens: int, seed: int
) -> list[TokenSequence]:
    """Random tokens of unequal lengths, the longest of `num_tokens`: the same for the same seed.

    Every token is as likely as any other, so that nothing of the embedding is left out for long.
    """
    import numpy as np

    # PCG64 by name: `default_rng` may change its generator in a later numpy.
    draw = np.random.Generator(np.random.PCG64(seed))
    lengths = [max(1, num_tokens * (num_prompts - i) // num_prompts) for i in range(num_prompts)]
    return [
        TokenSequence(f"random {number}", tuple(draw.integers(0, vocab_size, size).tolist()))
        for number, size in enumerate(lengths)
    ]


def text_sequences(encoded: Sequence[Sequence[int]]) -> list[TokenSequence]:
    """Texts whose tokens are known."""
    return [TokenSequence(f"text {i}", tuple(tokens)) for i, tokens in enumerate(encoded)]


def num_decoded(num_tokens: int) -> int:
    """How many of a sequence's last tokens are read one by one; at least one is read before."""
    return min(DECODED_TOKENS, num_tokens - 1)
