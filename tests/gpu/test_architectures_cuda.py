"""Every architecture on an NVIDIA GPU by ONNX Runtime, in both half precisions (marker `gpu`).

Random weights in the shapes of each class, heads of 32 to 96 dims. Logits are held against the same
checkpoint in float32 on the CPU, which is held against the original model elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines import find_engine
from pipeline.engines.generation import Session
from pipeline.engines.generator import SessionGenerator
from pipeline.engines.reference import open_reference
from pipeline.progress import Silent
from pipeline.recipe.schema import EngineSettings
from tests.table.rows import architectures
from tests.wide_checkpoints import write_wide

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("onnxruntime_gpu"),
]

PROMPTS = [[5, 9, 20, 33, 7], [8], [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3]]
STEPS = 6
LIMITS = {"float16": 1e-2, "bfloat16": 6e-2}
"""Of the median sequence and step: a rounded router may choose another expert now and then."""

SETTINGS = {"max_batch_size": 4, "max_input_len": 24, "max_seq_len": 40}


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", sorted(set(architectures().values())))
def test_the_gpu_computes_what_the_cpu_does(name: str, dtype: str, tmp_path: Path) -> None:
    checkpoint = write_wide(tmp_path / "checkpoint", name, dtype)
    settings = EngineSettings(backend="onnxruntime", device="cuda", **SETTINGS)
    engine = find_engine("onnxruntime")
    (tmp_path / "engine").mkdir()
    engine.build(checkpoint, settings, tmp_path / "engine", Silent())
    proof = json.loads((tmp_path / "engine" / "attention.json").read_bytes())
    assert proof["built"]["status"] == "fused", proof["built"]
    for phase in ("context", "generation"):
        assert proof["observed"][phase]["status"] == "fused", proof["observed"]
    generator = engine.open_generator(tmp_path / "engine", checkpoint.path, timeout_s=60)
    assert isinstance(generator, SessionGenerator)
    errors = list(differences(generator.session, exact(checkpoint)))
    assert np.median(errors) < LIMITS[dtype], errors


def exact(checkpoint: TrtllmCheckpoint) -> Session:
    """The decoder graph in float32 on the CPU."""
    return open_reference(
        checkpoint.path, EngineSettings(backend="onnxruntime", **SETTINGS)
    ).session


def differences(found: Session, wanted: Session) -> Iterator[float]:
    """Largest differences of logits, by sequence, of a prefill and of greedy steps."""
    ours, theirs = found.start(PROMPTS).copy(), wanted.start(PROMPTS).copy()
    for _ in range(STEPS):
        yield from np.abs(ours - theirs).max(-1) / np.abs(theirs).max(-1)
        tokens = theirs.argmax(-1).tolist()
        ours, theirs = found.step(tokens).copy(), wanted.step(tokens).copy()
