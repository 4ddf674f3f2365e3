"""Phi-3 with sequences that outgrow its trained length while they are continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.engines.generation import Sampling, generate
from pipeline.engines.long_rotary import LongRotarySession, with_long_rotary
from pipeline.engines.onnxruntime.cpu_session import Limits, open_session
from pipeline.graph.decoder import GraphOptions, decoder_model
from tests.parity.test_logits import convert, make_model

pytestmark = pytest.mark.torch

TRAINED, MAX_SEQ_LEN = 16, 48
FACTORS = {
    "short_factor": [1.0, 1.02, 1.1, 1.3, 1.4, 1.5, 1.7, 2.0],
    "long_factor": [1.0, 1.4, 9.0, 12.0, 20.0, 40.5, 41.0, 64.0],
}
PROMPTS = [
    np.random.default_rng(size).integers(0, 113, size=size).tolist() for size in (5, 15, 16, 17, 25)
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A model in transformers, and a session over its converted checkpoint."""
    folder = tmp_path_factory.mktemp("phi3")
    model = make_model(
        folder / "source",
        model_type="phi3",
        hidden_size=96,
        max_position_embeddings=64,
        original_max_position_embeddings=TRAINED,
        rope_parameters={"rope_type": "longrope", "rope_theta": 10000.0, **FACTORS},
    )
    path = folder / "source" / "config.json"
    config = json.loads(path.read_text())
    assert config.pop("head_dim") == 96 // 6  # which the family does not have
    path.write_text(json.dumps(config))
    checkpoint = convert(folder / "source", folder / "checkpoint")
    options = GraphOptions(MAX_SEQ_LEN, "float32", fixed_cache=False)
    graph, _ = decoder_model(checkpoint, options)
    session = open_session(
        graph.SerializeToString(), Path(checkpoint.path), Limits(len(PROMPTS), MAX_SEQ_LEN)
    )
    return model, with_long_rotary(session, checkpoint.config)


def test_logits_of_every_step(models: tuple[Any, Any]) -> None:
    """Against transformers reading each sequence at once, which then has the right factors."""
    import torch

    model, session = models
    assert isinstance(session, LongRotarySession)
    texts = [list(prompt) for prompt in PROMPTS]
    logits = session.start(texts)
    for token in range(20):
        for text, row in zip(texts, logits, strict=True):
            with torch.no_grad():
                expected = model(torch.tensor([text])).logits[0, -1].numpy()
            assert np.abs(row - expected).max() < 1e-4 * np.abs(expected).max()
        for text in texts:
            text.append(token)
        logits = session.step([token] * len(texts))


def test_greedy_tokens(models: tuple[Any, Any]) -> None:
    import torch

    model, session = models
    ours = generate(session, PROMPTS, Sampling(max_new_tokens=20))
    for prompt, generation in zip(PROMPTS, ours, strict=True):
        ids = torch.tensor([prompt])
        seen = torch.ones_like(ids)
        found = model.generate(ids, attention_mask=seen, max_new_tokens=20, do_sample=False)
        assert tuple(found[0, len(prompt) :].tolist()) == generation.token_ids
