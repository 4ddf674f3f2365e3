"""Which rows and columns of a source a rank gets: splits and picks become runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.weights.makings import Split, Taken
from pipeline.weights.parallel import Parallelism
from pipeline.weights.rules import Over


@dataclass(frozen=True, slots=True)
class Run:
    """`count` steps of a dim of a source, from `start`, every `step`th."""

    start: int
    step: int
    count: int


def share_of(over: Over, parallelism: Parallelism, tp_rank: int) -> tuple[int, int]:
    """How many share, and the rank's number among them."""
    if over == "tp":
        return parallelism.tp_size, tp_rank
    if over == "moe_tp":
        return parallelism.moe_tp_size, tp_rank // parallelism.moe_ep_size
    dim = {"embedding_rows": 0, "embedding_columns": 1}[over]
    return (parallelism.tp_size, tp_rank) if parallelism.embedding_dim == dim else (1, 0)


def runs_of(part: Taken, dim: int, parallelism: Parallelism, tp_rank: int) -> tuple[list[Run], int]:
    """Runs of the source for a dim of the target, and how many zeros follow."""
    whole, first, last = range_of(part, dim, parallelism, tp_rank)
    kept = max(0, min(last, whole) - first)
    zeros = last - first - kept
    if not kept:
        return [], zeros
    source_dim = 1 - dim if part.transposed else dim
    if part.picked is None or part.picked[0] != source_dim:
        return [Run(first, 1, kept)], zeros
    _, size, start, stop = part.picked
    return list(_picked_runs(size, start, stop - start, whole, first, first + kept)), zeros


def _picked_runs(
    size: int, start: int, width: int, whole: int, first: int, last: int
) -> Iterator[Run]:
    """Where `first:last` of a pick lies in its source."""
    if width == whole:
        yield Run(start + first, 1, last - first)
    elif width == 1:
        yield Run(first * size + start, size, last - first)
    else:
        while first < last:
            group, inside = divmod(first, width)
            count = min(width - inside, last - first)
            yield Run(group * size + start + inside, 1, count)
            first += count


def range_of(part: Taken, dim: int, parallelism: Parallelism, tp_rank: int) -> tuple[int, int, int]:
    """The size of a dim without padding, and the rank's range of it."""
    source_dim = 1 - dim if part.transposed else dim
    whole = part.columns if source_dim else part.rows
    if part.picked is not None and part.picked[0] == source_dim:
        _, size, start, stop = part.picked
        whole = whole // size * (stop - start)
    for split in part.splits:
        num_ranks, rank = share_of(split.over, parallelism, tp_rank)
        if split.dim == dim and num_ranks > 1:
            first, count = held(split, num_ranks, rank)
            piece = whole // split.pieces
            return whole, first * piece, (first + count) * piece
    return whole, 0, whole


def held(split: Split, num_ranks: int, rank: int) -> tuple[int, int]:
    """First piece and number of pieces of a rank; padding counts as pieces."""
    if split.replicate and split.pieces < num_ranks:
        return rank // (num_ranks // split.pieces), 1
    count = -(-split.pieces // num_ranks)
    return rank * count, count


def fits(split: Split, num_ranks: int) -> bool:
    """Whether that many ranks can share the dim."""
    even = split.pieces % num_ranks == 0
    return split.pad or even or (split.replicate and num_ranks % split.pieces == 0)
