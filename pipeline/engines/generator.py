"""What can generate: an engine that gives logits step by step, or one that yields whole texts.

Stages use this seam alone. `SessionGenerator` makes one of a `Session`; the engine of TensorRT-LLM
samples by itself, in a process of its own (`pipeline.engines.trtllm.generator`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from pipeline.artifact import Json
from pipeline.engines.generation import (
    Generation,
    OnToken,
    Sampling,
    Session,
    StopReason,
    generate,
)

if TYPE_CHECKING:
    from pipeline.engines.generation import Logits


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt. `wants_logits`: give `Generation.prompt_logits` too, where they can be had."""

    token_ids: tuple[int, ...]
    sampling: Sampling
    wants_logits: bool = False


class Generator(Protocol):
    """A loaded engine, seen from outside: prompts in, texts out."""

    @property
    def executed_by(self) -> Mapping[str, str]:
        """What computes, for records: `backend`, `version`, `device`, `note`."""

    def generate(
        self, requests: Sequence[GenerationRequest], on_token: OnToken | None = None
    ) -> list[Generation]:
        """Generate for all requests, in their order; `on_token` may end one (see `OnToken`).

        Raises ToolFailed, ResourceError or MachineError where the engine fails.
        """

    def observed(self) -> Mapping[str, Json] | None:
        """What a traced pass of `generate` showed of the attention kernels; None: nothing traced.

        The document is the `observed` of an attention proof, see `pipeline.trtllm.kernels`.
        """

    def __enter__(self) -> Self:
        """Itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End whatever was started for it."""


class SessionGenerator:
    """A `Generator` over a `Session`: our own sampling over the engine's logits."""

    def __init__(self, session: Session) -> None:
        self.session = session

    @property
    def executed_by(self) -> Mapping[str, str]:
        """What the session says."""
        return self.session.executed_by

    def generate(
        self, requests: Sequence[GenerationRequest], on_token: OnToken | None = None
    ) -> list[Generation]:
        """Generate in batches; then the logits of prompts, one prompt at a time."""
        prompts = [request.token_ids for request in requests]
        samplings = [request.sampling for request in requests]
        found = generate(self.session, prompts, samplings, on_token)
        return [
            replace(one, prompt_logits=self._logits(request.token_ids))
            if request.wants_logits
            else one
            for request, one in zip(requests, found, strict=True)
        ]

    def _logits(self, token_ids: Sequence[int]) -> Logits:
        """float32 `[prompt tokens, vocab_size]`: the prompt, read token by token."""
        import numpy as np

        rows = [self.session.start([token_ids[:1]])[0].copy()]
        rows += [self.session.step([token_id])[0].copy() for token_id in token_ids[1:]]
        return np.stack(rows)

    def observed(self) -> Mapping[str, Json] | None:
        """Sessions trace nothing."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Sessions end with their object."""


def cut(
    index: int,
    token_ids: Sequence[int],
    sampling: Sampling,
    on_token: OnToken | None,
) -> tuple[tuple[int, ...], StopReason]:
    """Go through a whole text token by token, as if it were being generated.

    For engines that cannot be stopped by `on_token`: what follows its stop is left out. An end
    token ends it too, whatever the engine made of it.
    """
    for number, token_id in enumerate(token_ids, start=1):
        stopped = on_token is not None and on_token(index, token_id)
        if token_id in sampling.stop_token_ids:
            return tuple(token_ids[:number]), "end"
        if stopped:
            return tuple(token_ids[:number]), "stop"
    return tuple(token_ids), "length"
