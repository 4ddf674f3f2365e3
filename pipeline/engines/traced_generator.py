"""A generator over a TensorRT engine, which names the attention kernels of one traced pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pipeline.artifact import Json
from pipeline.engines.attention_proof import not_observed
from pipeline.engines.generation import Generation, OnToken, Session
from pipeline.engines.generator import GenerationRequest, SessionGenerator
from pipeline.engines.onnxruntime.cuda_kernels import CannotTrace, launched_kernels, why_no_trace
from pipeline.trtllm.kernels import classify

PROMPT_TOKENS = 512
"""Tokens of the traced prompt, where the engine takes so many: short ones may use other kernels."""

NUM_STEPS = 8
"""Traced steps of one token."""


class TracedGenerator(SessionGenerator):
    """As `SessionGenerator`; after the first `generate`, one traced prompt and some steps."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._traced = session
        self._observed: Mapping[str, Json] | None = None

    def generate(
        self, requests: Sequence[GenerationRequest], on_token: OnToken | None = None
    ) -> list[Generation]:
        """Generate; then, once, look at the kernels."""
        found = super().generate(requests, on_token)
        if self._observed is None and requests:
            self._observed = observe(self._traced, requests[0].token_ids)
        return found

    def observed(self) -> Mapping[str, Json] | None:
        """The kernels of the traced pass."""
        return self._observed


def observe(
    session: Session, token_ids: Sequence[int], is_apart: Callable[[str], bool] | None = None
) -> dict[str, Json]:
    """The `observed` of an attention proof: kernels of a context pass and of generation steps.

    `is_apart`: whether a kernel of that name belongs to another layer, whatever it is called.
    """
    reason = why_no_trace()
    if reason is not None:
        return not_observed(reason)
    length = max(1, min(PROMPT_TOKENS, session.max_seq_len - NUM_STEPS))
    prompt = [token_ids[place % len(token_ids)] for place in range(length)]
    steps = min(NUM_STEPS, session.max_seq_len - length)

    def generate() -> None:
        for place in range(steps):
            session.step([token_ids[place % len(token_ids)]])

    try:
        context = launched_kernels(lambda: _start(session, prompt))
        generation = launched_kernels(generate)
    except CannotTrace as error:
        return not_observed(error.message)
    if is_apart is not None:
        context = [name for name in context if not is_apart(name)]
        generation = [name for name in generation if not is_apart(name)]
    return {
        **classify(context, generation),
        "device": "cuda",
        "evidence": f"kernel names by CUPTI: a prompt of {length} tokens, then {steps} steps",
    }


def _start(session: Session, prompt: Sequence[int]) -> None:
    session.start([prompt])
