"""The decoder graph of a converted checkpoint on the CPU: logits at every position.

Imports numpy and onnxruntime: import it where it works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.onnxruntime.cpu_session import CpuSession, Limits, open_session
from pipeline.graph.config import read_decoder
from pipeline.graph.decoder import GraphOptions, decoder_model
from pipeline.graph.rotary_description import needs_long
from pipeline.parity.comparison import Logits
from pipeline.parity.sequences import num_decoded

Tokens = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class GraphLogits:
    """What the graph gave for each sequence, float32.

    `prefill`: `[tokens, vocab_size]`, the sequence read at once. `decoded`: of its last tokens,
    each of which was read by itself after those before it (see `num_decoded`; none for a
    sequence of one token).
    """

    prefill: list[Logits]
    decoded: list[Logits]
    executed_by: Mapping[str, str]


def graph_logits(checkpoint: TrtllmCheckpoint, sequences: Tokens) -> GraphLogits:
    """Execute the decoder graph in float32 on a batch of sequences of any lengths.

    Raises RecipeError where the graph cannot express the checkpoint, VerificationError where the
    rank files are not what config.json says, ResourceError where memory is short.
    """
    longest = max(len(tokens) for tokens in sequences)
    options = GraphOptions(longest, "float32", logits="all", fixed_cache=False, flat_linear=True)
    model, _ = decoder_model(checkpoint, options)
    limits = Limits(len(sequences), longest)
    session = open_session(model.SerializeToString(), checkpoint.path, limits)
    offsets = _position_offsets(checkpoint, sequences, longest)
    prefill = session.read(sequences, offsets)
    decoded = _decode(session, sequences, offsets)
    return GraphLogits(prefill, decoded, session.executed_by)


def _position_offsets(
    checkpoint: TrtllmCheckpoint, sequences: Tokens, max_seq_len: int
) -> list[int]:
    """Which rows of the rotary tables each sequence reads, by its whole length.

    With a long rope, transformers reads a sequence beyond the trained length with other factors
    from its first token on; the graph has these in rows of their own (`uses_two_tables`).
    """
    rotaries = [each.rotary for each in read_decoder(checkpoint.config).attentions.values()]
    return [
        max_seq_len if any(r is not None and needs_long(r, len(tokens)) for r in rotaries) else 0
        for tokens in sequences
    ]


def _decode(session: CpuSession, sequences: Tokens, offsets: Sequence[int]) -> list[Logits]:
    """The last tokens of each sequence, token by token after the others."""
    counts = [num_decoded(len(tokens)) for tokens in sequences]
    begun = [len(tokens) - count for tokens, count in zip(sequences, counts, strict=True)]
    beginnings = [tokens[:n] for tokens, n in zip(sequences, begun, strict=True)]
    read = session.read(beginnings, offsets)
    rows = [[np.zeros((0, logits.shape[1]), np.float32)] for logits in read]
    for step in range(max(counts)):
        # A sequence that is through stays in the batch as padding: its row is left out.
        pairs = zip(sequences, begun, strict=True)
        logits = session.step([tokens[min(n + step, len(tokens) - 1)] for tokens, n in pairs])
        for number, count in enumerate(counts):
            if step < count:
                rows[number].append(logits[number : number + 1])
    return [np.concatenate(one) for one in rows]
