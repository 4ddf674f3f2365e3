"""Converted fixtures compute what transformers computes, by logits that were stored with them.

The one check that believes neither the rules nor the loader's words: a gate and an up projection
that are exchanged, or a rope scaling that gets lost on the way, change these numbers.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines import find_engine
from pipeline.families import Family, find_family
from pipeline.progress import Silent
from pipeline.recipe.schema import EngineSettings
from pipeline.weights.rules import Make
from tests.weights.converting import convert, plan

FIXTURES = Path(__file__).parent.parent / "fixtures"
NAMES = sorted(
    path.name for path in FIXTURES.iterdir() if path.name.startswith(("llama", "mistral"))
)
"""Of the architectures that the decoder graph expresses."""
SETTINGS = EngineSettings(backend="onnxruntime", max_batch_size=1, max_input_len=8, max_seq_len=16)


def relative_error(name: str, folder: Path, tp_size: int, pp_size: int, family: Family) -> float:
    """Largest difference of the prompt's last logits, relative to their largest."""
    made = plan(FIXTURES / name, tp_size, pp_size, "float32", family)
    checkpoint = convert(made, FIXTURES / name, folder / "checkpoint")
    engine = find_engine("onnxruntime")
    (folder / "engine").mkdir()
    engine.build(open_trtllm_checkpoint(checkpoint), SETTINGS, folder / "engine", Silent())
    expected = json.loads((FIXTURES / name / "expected.json").read_text())
    session = engine.load(folder / "engine", checkpoint)
    (logits,) = session.start([expected["prompt"]])
    wanted = np.array(expected["logits"])
    return float(np.abs(logits - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize(("tp_size", "pp_size"), [(1, 1), (2, 2)])
@pytest.mark.parametrize("name", NAMES)
def test_logits(name: str, tp_size: int, pp_size: int, tmp_path: Path) -> None:
    family = find_family("LlamaForCausalLM")
    assert relative_error(name, tmp_path, tp_size, pp_size, family) < 1e-5


def test_logits_tell_exchanged_weights(tmp_path: Path) -> None:
    """Gate and up exchanged in the rules: a checkpoint of the right shapes, and a wrong model."""
    family = find_family("LlamaForCausalLM")
    other = {"gate_proj": "up_proj", "up_proj": "gate_proj"}
    rules = []
    for rule in family.weight_map:
        word = rule.sources[0].source.split(".")[-2] if isinstance(rule, Make) else ""
        if isinstance(rule, Make) and word in other:
            (part,) = rule.sources
            part = dataclasses.replace(part, source=part.source.replace(word, other[word]))
            rules.append(dataclasses.replace(rule, parts=(part,)))
        else:
            rules.append(rule)
    wrong = dataclasses.replace(family, weight_map=tuple(rules))
    assert relative_error("llama", tmp_path, 1, 1, wrong) > 0.05
