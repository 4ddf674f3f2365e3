"""Where the tokens of a batch stand: the inputs of one step of the decoder graph.

Prompts of unequal length share a batch by padding on the right. A padded slot of the cache is
never seen: only padded queries look at it, and the sequence's own next tokens overwrite it.
Imports numpy: engines import it where they execute.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Step:
    """Inputs of one execution; b = batch, s = tokens of this step, t = cache slots.

    `finished_rows`: the sequences whose last prompt token is in this step, so that its logits
    count.
    """

    input_ids: Ids  # [b, s]
    position_ids: Ids  # [b, s]
    write_indices: Ids  # [b]
    last_index: Ids  # [b]
    finished_rows: NDArray[np.bool_]  # [b]

    @property
    def slots_needed(self) -> int:
        """Least number of cache slots that this step can run with."""
        return int(self.write_indices.max()) + int(self.input_ids.shape[1])

    def mask(self, num_slots: int) -> NDArray[np.bool_]:
        """Which slots each token sees: itself and what came before. Bool `[b, 1, s, t]`."""
        slots = np.arange(num_slots, dtype=np.int64)
        seen: NDArray[np.bool_] = slots <= self.position_ids[:, None, :, None]
        return seen

    def nonpad_kv_seqlen(self) -> Ids:
        """Slots filled after this step, padding included: int64 `[b]`."""
        filled: Ids = self.write_indices + self.input_ids.shape[1]
        return filled

    def inputs(
        self, names: Container[str], num_slots: int, offsets: Ids | int = 0
    ) -> dict[str, NDArray[Any]]:
        """The inputs of those `names`: a graph has not all of them.

        `offsets`, `[b]`, move what `position_ids` say, and neither slots nor masks.
        """
        found: dict[str, NDArray[Any]] = {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids + np.reshape(offsets, (-1, 1)),
            "write_indices": self.write_indices,
            "last_index": self.last_index,
            "nonpad_kv_seqlen": self.nonpad_kv_seqlen(),
        }
        if "mask" in names:
            found["mask"] = self.mask(num_slots)
        return {name: values for name, values in found.items() if name in names}


class Sequences:
    """How long the sequences of a session's batch are, and where their positions begin."""

    def __init__(self, max_batch_size: int, max_seq_len: int) -> None:
        self._max_batch_size, self._max_seq_len = max_batch_size, max_seq_len
        self.lengths: Ids = np.zeros(0, dtype=np.int64)
        self.offsets: Ids = np.zeros(0, dtype=np.int64)

    def begin(
        self, prompts: Sequence[Sequence[int]], position_offsets: Sequence[int] | None
    ) -> None:
        """The batch before is over. `position_offsets`: see `Step.inputs`; None: 0."""
        assert 1 <= len(prompts) <= self._max_batch_size
        self.lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
        assert 1 <= self.lengths.min() <= self.lengths.max() <= self._max_seq_len
        self.offsets = np.array(position_offsets or [0] * len(prompts), dtype=np.int64)
        assert len(self.offsets) == len(prompts)

    def append(
        self, token_ids: Sequence[int], run: Callable[[Step], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """One more token for each sequence, by `run`, which gives the logits of a step."""
        assert len(token_ids) == len(self.lengths)
        at = np.minimum(self.lengths, self._max_seq_len - 1)  # a full sequence is padding now
        logits = run(decode_step(token_ids, at))
        self.lengths = at + 1
        return logits


def read_prompts(
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    run: Callable[[Step], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Read prompts by `run`, which gives the logits `[batch, vocab_size]` of a step.

    The result has each prompt's logits after its last token.
    """
    result: NDArray[np.float32] | None = None
    for step in prefill_steps(prompts, max_tokens):
        logits = run(step)
        result = logits if result is None else result
        result[step.finished_rows] = logits[step.finished_rows]
    assert result is not None
    return result


def prefill_steps(prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[Step]:
    """The steps that read the prompts, each of at most `max_tokens` tokens over all sequences.

    Long prompts are read piece by piece, which bounds the attention scores that a step holds.
    """
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    longest, batch = int(lengths.max()), len(prompts)
    padded = np.zeros((batch, longest), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        padded[row, : len(prompt)] = prompt
    width = max(1, max_tokens // batch)
    for first in range(0, longest, width):
        piece = np.ascontiguousarray(padded[:, first : first + width])
        positions = np.arange(first, first + piece.shape[1], dtype=np.int64)
        last = lengths - 1 - first
        yield Step(
            input_ids=piece,
            position_ids=np.ascontiguousarray(np.broadcast_to(positions, piece.shape)),
            write_indices=np.full(batch, first, dtype=np.int64),
            last_index=np.clip(last, 0, piece.shape[1] - 1),
            finished_rows=(last >= 0) & (last < piece.shape[1]),
        )


def decode_step(token_ids: Sequence[int], lengths: Ids) -> Step:
    """The step that appends one token to each sequence of `lengths` tokens."""
    batch = len(token_ids)
    return Step(
        input_ids=np.array(token_ids, dtype=np.int64)[:, None],
        position_ids=np.ascontiguousarray(lengths[:, None]),
        write_indices=lengths.copy(),
        last_index=np.zeros(batch, dtype=np.int64),
        finished_rows=np.ones(batch, dtype=np.bool_),
    )
