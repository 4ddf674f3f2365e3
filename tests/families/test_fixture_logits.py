"""Every converted fixture computes what its original computes, by the references stored with it.

The one check that believes neither the rules nor the loader's words: a gate and an up projection
that are exchanged, or a rope scaling that gets lost on the way, change these numbers. See
`test_gate_faults.py` for what it sees.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines.generation import Sampling, generate
from pipeline.engines.onnxruntime.cpu_session import CpuSession
from pipeline.families import find_family
from pipeline.weights.layout import plan_conversion
from pipeline.weights.parallel import Parallelism
from tests.families.executing import converted, session
from tests.families.fixtures import FIXTURES, NAMES, layouts, open_fixture
from tests.families.references import EVERY, Reference, reference, relative_error
from tests.weights.converting import convert

LIMIT = 1e-4
"""Largest error of float32 that is let pass."""


def prefill(loaded: CpuSession, of: Reference) -> float:
    """A batch of unequal prompts."""
    return relative_error(loaded.start(of.prompts), of.last_logits)


def alone(loaded: CpuSession, of: Reference) -> float:
    """Each prompt by itself."""
    found = np.concatenate([loaded.start([prompt]) for prompt in of.prompts])
    return relative_error(found, of.last_logits)


def prefixes(loaded: CpuSession, of: Reference) -> float:
    """Every beginning of a prompt, in one batch."""
    prompt = of.prompts[EVERY]
    found = loaded.start([prompt[:length] for length in range(1, len(prompt) + 1)])
    return relative_error(found, of.every_logits)


def step_by_step(loaded: CpuSession, of: Reference) -> float:
    """One token after another of a prompt."""
    first, *others = of.prompts[EVERY]
    rows = [loaded.start([[first]]), *(loaded.step([token]) for token in others)]
    return relative_error(np.concatenate(rows), of.every_logits)


CHECKS: tuple[Callable[[CpuSession, Reference], float], ...] = (
    prefill,
    alone,
    prefixes,
    step_by_step,
)


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_greedy_tokens(name: str, tmp_path: Path) -> None:
    expected = reference(name)
    loaded = session(converted(name, tmp_path), expected.positions)
    assert_near(loaded, expected)
    samplings = [Sampling(len(tokens)) for tokens in expected.greedy]
    found = generate(loaded, expected.prompts, samplings)
    assert tuple(each.token_ids for each in found) == expected.greedy


@pytest.mark.parametrize("name", NAMES)
def test_logits_of_a_split_checkpoint_by_lengths(name: str, tmp_path: Path) -> None:
    """In four ranks where the class knows pipelines, else in two."""
    expected = reference(name)
    source = open_fixture(name)
    pp_size = max(each.pp_size for each in layouts(source))
    checkpoint = converted(name, tmp_path, 2, pp_size)
    assert_near(session(checkpoint, expected.positions, form="lengths"), expected)


@pytest.mark.parametrize("name", ["gemma2", "deepseek-v2", "qwen2moe", "phimoe", "dbrx"])
def test_logits_in_the_words_that_tensorrt_wants(name: str, tmp_path: Path) -> None:
    """Where it wants others than ONNX Runtime; executed by that all the same."""
    expected = reference(name)
    checkpoint = converted(name, tmp_path, 2)
    assert_near(session(checkpoint, expected.positions, dialect="tensorrt"), expected)


@pytest.mark.parametrize("embedding_dim", [0, 1])
@pytest.mark.parametrize("name", ["gpt2", "opt", "opt-350m"])
def test_learned_positions_are_shared_as_the_embedding(
    name: str, embedding_dim: int, tmp_path: Path
) -> None:
    """By rows (three ranks do not divide the 32 positions) and by columns."""
    expected, source = reference(name), open_fixture(name)
    layout = Parallelism(3 if embedding_dim == 0 else 2, embedding_dim=embedding_dim)
    made = plan_conversion(source, find_family(source.architecture), layout, "float32")
    checkpoint = open_trtllm_checkpoint(convert(made, FIXTURES / name, tmp_path / "shared"))
    assert_near(session(checkpoint, expected.positions), expected)


def assert_near(loaded: CpuSession, expected: Reference) -> None:
    errors = {check.__name__: check(loaded, expected) for check in CHECKS}
    assert max(errors.values()) <= LIMIT, errors
