"""The traced pass of a TensorRT engine: what runs, in which phase, and what is told without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.engines import traced_generator
from pipeline.engines.generation import Sampling
from pipeline.engines.generator import GenerationRequest
from pipeline.engines.onnxruntime.cuda_kernels import CannotTrace
from pipeline.engines.traced_generator import NUM_STEPS, PROMPT_TOKENS, TracedGenerator


class Counting:
    """A session that always yields token 3, and keeps what it was asked."""

    max_batch_size = 2
    executed_by: Mapping[str, str] = {"backend": "tensorrt"}

    def __init__(self, max_seq_len: int) -> None:
        self.max_seq_len = max_seq_len
        self.calls: list[tuple[str, int]] = []

    def start(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        self.calls.append(("start", len(prompts[0])))
        return self._logits(len(prompts))

    def step(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        self.calls.append(("step", len(token_ids)))
        return self._logits(len(token_ids))

    def _logits(self, batch: int) -> NDArray[np.float32]:
        return np.eye(8, dtype=np.float32)[[3] * batch]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Kernels that the traced runs launch, in order."""
    found = [["_gemm_mha_v2_0xa9", "__myl_Mul"], ["_gemv_mha_v1_0x2f_vec"]]
    left = list(found)

    def launched(run: Callable[[], None]) -> list[str]:
        run()
        return left.pop(0)

    monkeypatch.setattr(traced_generator, "launched_kernels", launched)
    monkeypatch.setattr(traced_generator, "why_no_trace", lambda: None)
    return found


REQUEST = GenerationRequest((5, 6, 7), Sampling(2))


def test_one_prompt_and_some_steps_are_traced_once(kernels: list[list[str]]) -> None:
    session = Counting(4096)
    generator = TracedGenerator(session)
    assert generator.observed() is None
    first = generator.generate([REQUEST])
    traced = session.calls[2:]
    assert traced == [("start", PROMPT_TOKENS), *[("step", 1)] * NUM_STEPS]
    observed = generator.observed()
    assert observed is not None
    assert observed["status"] == "fused"
    assert observed["context"]["kernels"] == ["_gemm_mha_v2_0xa9"]
    assert observed["generation"]["kernels"] == ["_gemv_mha_v1_0x2f_vec"]
    assert generator.generate([REQUEST]) == first
    assert len(session.calls) == 2 + 1 + NUM_STEPS + 2


def test_a_short_engine_is_traced_within_its_length(kernels: list[list[str]]) -> None:
    session = Counting(16)
    TracedGenerator(session).generate([REQUEST])
    assert session.calls[2:] == [("start", 8), *[("step", 1)] * 8]


def test_without_cupti_it_is_said_that_nothing_was_observed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traced_generator, "why_no_trace", lambda: "no CUPTI")
    generator = TracedGenerator(Counting(64))
    generator.generate([REQUEST])
    assert generator.observed() == {"status": "not observed", "reason": "no CUPTI"}


def test_a_trace_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: Callable[[], None]) -> list[str]:
        raise CannotTrace("kernels cannot be named")

    monkeypatch.setattr(traced_generator, "launched_kernels", refuse)
    monkeypatch.setattr(traced_generator, "why_no_trace", lambda: None)
    generator = TracedGenerator(Counting(64))
    assert generator.generate([REQUEST])[0].token_ids == (3, 3)
    observed = generator.observed()
    assert observed is not None
    assert observed["status"] == "not observed"
    assert "kernels cannot be named" in observed["reason"]
