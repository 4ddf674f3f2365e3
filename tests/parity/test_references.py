"""The stored references are what the original models compute today from the stored checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.families.fixtures import NAMES
from tests.families.references import EVERY, reference, relative_error
from tests.parity import references
from tests.parity.references import MAX_GREEDY, SMALLEST_GAP, original_model, positions, prompts_of

pytestmark = pytest.mark.torch

LIMIT = 1e-5
"""Of other processors, whose sums round otherwise."""

LIMITS = {"dbrx": 1e-4}
"""The last norm of this one divides small values, so that float32 itself is off by 1.6e-5."""


@pytest.mark.parametrize("name", NAMES)
def test_reference(name: str) -> None:
    stored = reference(name)
    original = original_model(name)
    assert stored.origin == original.origin
    assert list(stored.prompts) == prompts_of(name)
    rows = [
        all_logits(original.logits, prompt + tokens)
        for prompt, tokens in zip(stored.prompts, stored.greedy, strict=True)
    ]
    lasts = [len(prompt) - 1 for prompt in stored.prompts]
    found = np.stack([row[last].numpy() for row, last in zip(rows, lasts, strict=True)])
    every = rows[EVERY][: lasts[EVERY] + 1].numpy()
    assert relative_error(found, stored.last_logits) <= LIMITS.get(name, LIMIT)
    assert relative_error(every, stored.every_logits) <= LIMITS.get(name, LIMIT)
    for row, last, tokens in zip(rows, lasts, stored.greedy, strict=True):
        assert_greedy(row[last:], tokens, positions(name) - last - 1)
    assert stored.smallest_gap >= SMALLEST_GAP


def all_logits(logits: references.Logits, token_ids: tuple[int, ...]) -> Any:
    import torch

    with torch.no_grad():
        return logits(token_ids)


def assert_greedy(rows: Any, tokens: tuple[int, ...], room: int) -> None:
    """Each token is the best after those before it, and they end where they should."""
    assert tuple(rows.argmax(-1).tolist()[:-1]) == tokens
    at_limit = len(tokens) == min(MAX_GREEDY, room)
    assert at_limit or references.relative_gap(rows[-1]) < SMALLEST_GAP * 1.1


def test_each_fixture_has_one_original() -> None:
    from tests.parity.equivalents import EQUIVALENTS

    assert sorted([*EQUIVALENTS, *references.KINDS]) == NAMES


def test_positions_of_references() -> None:
    """Long enough for the windows and original positions of the fixtures, where there is room."""
    for name in NAMES:
        stored = reference(name)
        longest = max(len(prompt) for prompt in stored.prompts)
        assert longest == (72 if positions(name) == references.LONGEST else 21)
        assert stored.positions <= positions(name)
