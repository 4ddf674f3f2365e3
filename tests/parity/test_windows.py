"""Sliding windows, in all layers or in some: converted checkpoints against transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.parity.execution import graph_logits
from tests.parity.test_logits import convert, make_model

pytestmark = pytest.mark.torch

SLIDING, FULL = "sliding_attention", "full_attention"
QWEN: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 7}
MODELS: dict[str, dict[str, Any]] = {
    "mistral": {"model_type": "mistral", "sliding_window": 7},
    "mixtral": {"model_type": "mixtral", "sliding_window": 7, "num_local_experts": 4},
    "starcoder2": {"model_type": "starcoder2", "sliding_window": 7, "hidden_size": 96},
    "phi3": {"model_type": "phi3", "sliding_window": 7, "hidden_size": 96},
    "gemma2": {"model_type": "gemma2", "sliding_window": 7},
    "gemma2, other layers": {
        "model_type": "gemma2",
        "sliding_window": 7,
        "layer_types": [FULL, SLIDING, FULL],
    },
    "qwen2": {"model_type": "qwen2", "max_window_layers": 1, **QWEN},
    "qwen3": {"model_type": "qwen3", "layer_types": [SLIDING, FULL, SLIDING], **QWEN},
}
NOT_OF = {"phi3": ("head_dim",), "starcoder2": ("head_dim", "rms_norm_eps")}
"""Keys of the sizes that a family does not have."""

TOKENS = [np.random.default_rng(size).integers(1, 113, size=size).tolist() for size in (40, 23, 7)]


def take_away(path: Path, *names: str) -> None:
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: item for key, item in config.items() if key not in names}))


@pytest.mark.parametrize("name", MODELS)
def test_logits(name: str, tmp_path: Path) -> None:
    import torch

    model = make_model(tmp_path / "source", **MODELS[name])
    take_away(tmp_path / "source" / "config.json", *NOT_OF.get(name, ()))
    checkpoint = convert(tmp_path / "source", tmp_path / "checkpoint")
    ours = graph_logits(checkpoint, TOKENS)
    take_away(tmp_path / "checkpoint" / "config.json", "attention_windows")
    unlimited = graph_logits(open_trtllm_checkpoint(tmp_path / "checkpoint"), TOKENS)
    for number, tokens in enumerate(TOKENS):
        with torch.no_grad():
            expected = model(torch.tensor([tokens])).logits[0].numpy()
        bound = 1e-4 * np.abs(expected).max()
        assert np.abs(ours.prefill[number] - expected).max() < bound
        decoded = ours.decoded[number]
        assert len(decoded) > 0
        assert np.abs(decoded - expected[-len(decoded) :]).max() < bound
        is_longer = len(tokens) > 7
        assert (np.abs(unlimited.prefill[number] - expected).max() > 100 * bound) == is_longer
