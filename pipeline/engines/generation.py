"""Greedy and sampled generation over any loaded engine: batches, end tokens, stop reasons.

What a prompt yields depends on the prompt and its sampling alone, never on its neighbours in a
batch: each sequence has its own positions, its own random numbers and its own end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from pipeline.errors import RecipeError

if TYPE_CHECKING:
    # Engine modules are imported by the plan, which reads no heavy package.
    import numpy as np
    from numpy.typing import NDArray

    Logits = NDArray[np.float32]

StopReason = Literal["end", "stop", "length"]

OnToken = Callable[[int, int], bool]
"""Called with the index of a prompt and its next token id; returns True to stop that prompt."""


class Session(Protocol):
    """A loaded engine: one batch at a time, with a KV cache."""

    @property
    def max_batch_size(self) -> int:
        """Largest number of prompts of `start`."""

    @property
    def max_seq_len(self) -> int:
        """Most tokens of a sequence, prompt included."""

    @property
    def executed_by(self) -> Mapping[str, str]:
        """What computes, for records: `backend`, `version`, `device`, `note`."""

    def start(self, prompts: Sequence[Sequence[int]]) -> Logits:
        """Read the prompts, of any lengths; float32 `[batch, vocab_size]` after their last token.

        Ends the batch before.
        """

    def step(self, token_ids: Sequence[int]) -> Logits:
        """Append one token to each sequence; float32 `[batch, vocab_size]` after it.

        A sequence that is full keeps its length: what it yields from there on has no meaning.
        """


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens, and when to stop. Temperature 0 takes the likeliest token.

    `top_p` keeps the smallest set of likeliest tokens whose probabilities reach it. `seed` gives
    each prompt the same random numbers, whichever prompts surround it.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop_token_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Generation:
    """What a prompt yielded; an end token is the last of `token_ids`.

    `end`: a token of `stop_token_ids`; `stop`: `on_token` said so; `length`: a limit was reached.
    `prompt_logits`: float32 `[prompt tokens, vocab_size]`, row `i` after token `i` of the prompt,
    where they were asked for and can be had.
    """

    token_ids: tuple[int, ...]
    stop_reason: StopReason
    prompt_logits: Logits | None = field(default=None, compare=False, repr=False)


def generate(
    session: Session,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling | Sequence[Sampling],
    on_token: OnToken | None = None,
) -> list[Generation]:
    """Generate for all prompts, in batches of at most `max_batch_size`, in their order.

    Raises RecipeError where prompts are empty, or leave no room in `max_seq_len` for a token.
    """
    _check_lengths(session, prompts)
    samplings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else list(sampling)
    assert len(samplings) == len(prompts)
    sequences = [
        _Sequence(index, tuple(prompt), how)
        for index, (prompt, how) in enumerate(zip(prompts, samplings, strict=True))
    ]
    for first in range(0, len(sequences), session.max_batch_size):
        _run_batch(session, sequences[first : first + session.max_batch_size], on_token)
    return [sequence.result() for sequence in sequences]


def _check_lengths(session: Session, prompts: Sequence[Sequence[int]]) -> None:
    faults = [f"prompt {i} has no tokens" for i, prompt in enumerate(prompts) if not prompt]
    faults += [
        f"prompt {i} has {len(prompt)} tokens"
        for i, prompt in enumerate(prompts)
        if len(prompt) >= session.max_seq_len
    ]
    if faults:
        raise RecipeError(
            f"prompts do not fit an engine with `max_seq_len` {session.max_seq_len}",
            facts=faults,
            hint="shorten the prompts or build with a larger `engine.max_seq_len`",
        )


def _run_batch(session: Session, batch: list[_Sequence], on_token: OnToken | None) -> None:
    logits = session.start([sequence.prompt for sequence in batch])
    while True:
        for sequence, row in zip(batch, logits, strict=True):
            if sequence.stop_reason is None:
                sequence.append(_choose(row, sequence), session.max_seq_len, on_token)
        if all(sequence.stop_reason is not None for sequence in batch):
            return
        # A finished sequence stays in the batch as padding: its row is computed and ignored.
        logits = session.step([sequence.token_ids[-1] for sequence in batch])


@dataclass(slots=True)
class _Sequence:
    """One prompt while it is being continued."""

    index: int
    prompt: tuple[int, ...]
    sampling: Sampling
    token_ids: list[int] = field(default_factory=list)
    stop_reason: StopReason | None = None
    draws: Iterator[float] | None = None

    def append(self, token_id: int, max_seq_len: int, on_token: OnToken | None) -> None:
        """Take the next token, and find out whether it was the last."""
        self.token_ids.append(token_id)
        stopped = on_token is not None and on_token(self.index, token_id)
        num_new = len(self.token_ids)
        if token_id in self.sampling.stop_token_ids:
            self.stop_reason = "end"
        elif stopped:
            self.stop_reason = "stop"
        elif num_new >= min(self.sampling.max_new_tokens, max_seq_len - len(self.prompt)):
            self.stop_reason = "length"

    def draw(self) -> float:
        """The next random number in [0, 1) of this sequence."""
        if self.draws is None:
            self.draws = _draws(self.sampling.seed)
        return next(self.draws)

    def result(self) -> Generation:
        """What came out."""
        assert self.stop_reason is not None
        return Generation(tuple(self.token_ids), self.stop_reason)


def _draws(seed: int) -> Iterator[float]:
    import numpy as np

    # PCG64 by name: `default_rng` may change its generator in a later numpy.
    generator = np.random.Generator(np.random.PCG64(seed))
    while True:
        yield float(generator.random())


def _choose(logits: Logits, sequence: _Sequence) -> int:
    """The next token from `[vocab_size]` logits; the lowest id among equals."""
    import numpy as np

    sampling = sequence.sampling
    if sampling.temperature == 0:
        return int(np.argmax(logits))
    scaled = logits.astype(np.float64) / sampling.temperature
    weights = np.exp(scaled - scaled.max())
    order = np.argsort(-weights, kind="stable")
    cumulative = np.cumsum(weights[order] / weights.sum())
    kept = int(np.searchsorted(cumulative, sampling.top_p)) + 1  # reaches top_p with its last
    kept = min(kept, len(order))
    drawn = sequence.draw() * cumulative[kept - 1]
    return int(order[min(int(np.searchsorted(cumulative, drawn, side="right")), kept - 1)])
