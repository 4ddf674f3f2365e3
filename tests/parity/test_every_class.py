"""Every class of transformers that is supported: prefill, and 64 greedy tokens, against ours.

Larger models than the fixtures', of random weights, made here and converted here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines.generation import Sampling, generate
from tests.families.executing import session
from tests.families.references import relative_error
from tests.parity.as_published import publish
from tests.parity.larger import POSITIONS, larger
from tests.parity.make_fixtures import make
from tests.parity.references import KINDS, SMALLEST_GAP, read_by_transformers, relative_gap
from tests.weights.converting import convert, plan

pytestmark = pytest.mark.torch

LIMIT = 1e-4
NUM_TOKENS = 64
PROMPTS = (
    tuple(5 + 37 * number % 101 for number in range(11)),
    tuple(7 + number * number % 97 for number in range(64)),
)


@pytest.mark.parametrize("name", KINDS)
def test_prefill_and_greedy_tokens(name: str, tmp_path: Path) -> None:
    import torch

    model = larger(KINDS[name])
    source = tmp_path / name
    make(source, model)
    publish(source, model.architecture)
    made = plan(source, tp_size=2, dtype="float32")
    checkpoint = open_trtllm_checkpoint(convert(made, source, tmp_path / "converted"))
    loaded = session(checkpoint, POSITIONS)
    logits = loaded.start(PROMPTS)
    found = generate(loaded, PROMPTS, Sampling(NUM_TOKENS))
    original = read_by_transformers(source, model.stem).logits
    for prompt, ours, row in zip(PROMPTS, found, logits, strict=True):
        assert len(ours.token_ids) == NUM_TOKENS
        with torch.no_grad():
            rows = original(prompt + ours.token_ids[:-1])[len(prompt) - 1 :]
        assert relative_error(row, np.asarray(rows[0])) <= LIMIT
        assert_greedy(rows, ours.token_ids)


def assert_greedy(rows: Any, token_ids: tuple[int, ...]) -> None:
    """Each token is the best one after those before it, or as good as the best one."""
    clear = [relative_gap(row) >= SMALLEST_GAP for row in rows]
    assert sum(clear) >= NUM_TOKENS - 4
    for row, token_id, alone in zip(rows, token_ids, clear, strict=True):
        best = row.topk(2).indices.tolist()
        assert token_id in (best[:1] if alone else best)
