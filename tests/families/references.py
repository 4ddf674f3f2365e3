"""What the original model computes from each fixture, as stored beside it in `expected.json`.

Made by `python -m tests.parity.references`; `tests/parity/test_references.py` makes them anew and
compares.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tests.families.fixtures import FIXTURES

Logits = NDArray[np.float64]

EVERY = 1
"""Which prompt's logits are stored for every token."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Float32 results of the original model.

    Attributes:
        origin: Which model it was, of which project.
        prompts: Token ids, of unequal lengths.
        last_logits: `[prompts, vocab_size]`, after the last token of each prompt.
        every_logits: `[tokens, vocab_size]`, after every token of `prompts[EVERY]`.
        greedy: Continuation of each prompt. It ends where the best two logits are too near to one
            another to be told apart, after 64 tokens, or at the model's last position.
        smallest_gap: Smallest distance of the best two logits in all of `greedy`, relative to the
            largest logit.
        positions: Most tokens that anything here needs.
    """

    origin: str
    prompts: tuple[tuple[int, ...], ...]
    last_logits: Logits
    every_logits: Logits
    greedy: tuple[tuple[int, ...], ...]
    smallest_gap: float
    positions: int


@cache
def reference(name: str) -> Reference:
    """The stored reference of a fixture."""
    record = json.loads((FIXTURES / name / "expected.json").read_text(encoding="utf-8"))
    prompts = tuple(tuple(prompt) for prompt in record["prompts"])
    greedy = tuple(tuple(tokens) for tokens in record["greedy"])
    both = zip(prompts, greedy, strict=True)
    return Reference(
        origin=record["reference"],
        prompts=prompts,
        last_logits=np.array(record["last_logits"]),
        every_logits=np.array(record["every_logits"]),
        greedy=greedy,
        smallest_gap=record["smallest_gap"],
        positions=max(len(prompt) + len(tokens) for prompt, tokens in both),
    )


def relative_error(found: NDArray[np.floating], wanted: NDArray[np.floating]) -> float:
    """Largest difference of logits, relative to the largest expected one."""
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
