"""The inverse direction, worked out from what was written: where a target tensor comes from.

Nothing here reads the weight rules or the conversion plan's expressions. A target's name is
translated by the words of TensorRT-LLM's own loader, and what part of the source it holds follows
from the two shapes: equal ones are whole, a smaller dim is a rank's share of that dim. Source:
TensorRT-LLM 1.2, `models/model_weights_loader.py` (`load_tensor`), `layers/attention.py` (heads).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.checkpoint.safetensors_file import TensorInfo


@dataclass(frozen=True, slots=True)
class Piece:
    """`count` steps of `dim`: from `target_start` in the target, from `source_start` in the source.

    Without a source they are padding, which must be zero.
    """

    source: TensorInfo | None
    dim: int
    target_start: int
    source_start: int
    count: int


class Misplaced(Exception):
    """A target tensor's shape does not follow from its sources."""


def place_target(
    target: TensorInfo, sources: Sequence[TensorInfo], tp_rank: int, tp_size: int, unit: int
) -> list[Piece]:
    """The pieces that fill a target tensor, in order.

    `unit` is how many rows of joined sources must stay together (head_size for Q, K and V). Raises
    Misplaced where the pieces do not fill it exactly.
    """
    if len(sources) == 1:
        return _single(target, sources[0], tp_rank, tp_size)
    pieces, filled = [], 0
    for source in sources:
        if source.shape[1:] != target.shape[1:]:
            raise Misplaced(f"{list(target.shape)} is not joined from rows of {list(source.shape)}")
        units = source.shape[0] // unit
        count = max(1, units // tp_size) * unit
        # With fewer units than ranks, consecutive ranks repeat one: rank r has unit r*units/tp.
        first = tp_rank * units // tp_size * unit
        pieces.append(Piece(source, 0, filled, first, count))
        filled += count
    if filled != target.shape[0]:
        raise Misplaced(f"it has {target.shape[0]} rows, its sources give {filled}")
    return pieces


def _single(target: TensorInfo, source: TensorInfo, tp_rank: int, tp_size: int) -> list[Piece]:
    if target.shape == source.shape:
        return [Piece(source, 0, 0, 0, target.shape[0])]
    if len(target.shape) != len(source.shape):
        raise Misplaced(f"{list(target.shape)} is no part of {list(source.shape)}")
    differing = [d for d in range(len(target.shape)) if target.shape[d] != source.shape[d]]
    dim = differing[0]
    local, whole = target.shape[dim], source.shape[dim]
    if len(differing) > 1 or local != -(-whole // tp_size):
        raise Misplaced(f"{list(target.shape)} is no share of {list(source.shape)}")
    first = min(tp_rank * local, whole)
    kept = min(local, whole - first)
    pieces = [Piece(source, dim, 0, first, kept)] if kept else []
    if kept < local:
        pieces.append(Piece(None, dim, kept, 0, local - kept))
    return pieces


def uncovered(pieces: Sequence[Piece], source: TensorInfo) -> list[tuple[int, int]]:
    """Ranges of a source that no piece holds, on the dim along which it was shared."""
    gaps = [
        _gaps([piece for piece in pieces if piece.dim == dim], source.shape[dim])
        for dim in sorted({piece.dim for piece in pieces})
    ]
    return min(gaps, key=len)


def _gaps(pieces: Sequence[Piece], whole: int) -> list[tuple[int, int]]:
    gaps, position = [], 0
    for start, count in sorted((piece.source_start, piece.count) for piece in pieces):
        if start > position:
            gaps.append((position, start))
        position = max(position, start + count)
    return gaps if position >= whole else [*gaps, (position, whole)]
