"""Which values of a rule's sources each rank gets: rules become patches.

Pure arithmetic on row and column numbers. Patches are made when they are asked for, so that the
plan of a model with a hundred thousand tensors stays small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.weights.coverage import Making, Split, Taken, TakenProduct
from pipeline.weights.parallel import Parallelism
from pipeline.weights.patches import AnyPatch, Patch, ProductPatch
from pipeline.weights.rules import Over


@dataclass(frozen=True, slots=True)
class _Run:
    """`count` steps of a dim of a source, from `start`, every `step`th."""

    start: int
    step: int
    count: int


def target_shape(making: Making, parallelism: Parallelism, tp_rank: int) -> tuple[int, ...]:
    """Shape of what a rank gets."""
    sizes = [_size(part, parallelism, tp_rank) for part in making.parts]
    rows, columns = sum(size[0] for size in sizes), sizes[0][1]
    assert all(size[1] == columns for size in sizes), making.rule.target
    if making.num_experts:
        experts = parallelism.experts(tp_rank, making.num_experts)
        return (len(experts), rows, columns)
    is_vector = all(len(info.shape) == 1 for info in making.sources)
    return (rows,) if is_vector else (rows, columns)


def patches(making: Making, parallelism: Parallelism, tp_rank: int) -> Iterator[AnyPatch]:
    """The patches of what a rank gets, from its first row to its last."""
    if making.num_experts:
        rows = sum(_size(part, parallelism, tp_rank)[0] for part in making.parts)
        for place, expert in enumerate(parallelism.experts(tp_rank, making.num_experts)):
            yield from _stacked(making, parallelism, tp_rank, expert, place * rows)
    elif making.groups > 1:
        yield from _interleaved(making, parallelism, tp_rank)
    else:
        yield from _stacked(making, parallelism, tp_rank, None, 0)


def share_of(over: Over, parallelism: Parallelism, tp_rank: int) -> tuple[int, int]:
    """How many share, and the rank's number among them."""
    if over == "tp":
        return parallelism.tp_size, tp_rank
    if over == "moe_tp":
        return parallelism.moe_tp_size, tp_rank // parallelism.moe_ep_size
    dim = {"embedding_rows": 0, "embedding_columns": 1}[over]
    return (parallelism.tp_size, tp_rank) if parallelism.embedding_dim == dim else (1, 0)


def _stacked(
    making: Making, parallelism: Parallelism, tp_rank: int, expert: int | None, row: int
) -> Iterator[AnyPatch]:
    """All parts, one below the other."""
    for part in making.parts:
        for patch in _part(part, parallelism, tp_rank, expert):
            yield patch.moved(patch.row + row)
        row += _size(part, parallelism, tp_rank)[0]


def _interleaved(making: Making, parallelism: Parallelism, tp_rank: int) -> Iterator[AnyPatch]:
    """All parts, group by group."""
    groups = making.groups // parallelism.tp_size
    widths = [_size(part, parallelism, tp_rank)[0] // groups for part in making.parts]
    found: list[AnyPatch] = []
    for number, (part, width) in enumerate(zip(making.parts, widths, strict=True)):
        for patch in _part(part, parallelism, tp_rank, None):
            for piece in _pieces(patch, width):
                group, inside = divmod(piece.row, width)
                found.append(piece.moved(group * sum(widths) + sum(widths[:number]) + inside))
    yield from sorted(found, key=lambda patch: patch.row)


def _pieces(patch: AnyPatch, width: int) -> Iterator[AnyPatch]:
    """A patch, cut where a group of `width` rows ends."""
    first = 0
    while first < patch.num_rows:
        count = min(width - (patch.row + first) % width, patch.num_rows - first)
        yield patch.cut(first, count)
        first += count


def _part(
    part: Taken | TakenProduct, parallelism: Parallelism, tp_rank: int, expert: int | None
) -> Iterator[AnyPatch]:
    if isinstance(part, TakenProduct):
        yield from _product(part, parallelism, tp_rank)
        return
    if part.blocks:
        yield from _transposed_blocks(part, parallelism, tp_rank)
        return
    single = len(part.tensors) == 1
    tensor = part.tensors[0 if single else expert or 0]
    base = (expert or 0) * part.rows if single else 0
    row = 0
    rows, row_zeros = _runs(part, 0, parallelism, tp_rank)
    columns, column_zeros = _runs(part, 1, parallelism, tp_rank)
    width = sum(run.count for run in columns)
    for run in rows:
        column = 0
        for other in columns:
            yield _patch(part, tensor, base, row, column, run, other)
            column += other.count
        if column_zeros:
            yield Patch(row, run.count, column, column_zeros)
        row += run.count
    if row_zeros:
        yield Patch(row, row_zeros, 0, width + column_zeros)


def _patch(
    part: Taken, tensor: TensorInfo, base: int, row: int, column: int, run: _Run, other: _Run
) -> Patch:
    """Rows by one run of a source, columns by another."""
    assert other.step == 1, tensor.name
    if part.transposed:
        assert run.step == 1, tensor.name
        first_row, first_column = base + other.start, run.start
    else:
        first_row, first_column = base + run.start, other.start
    return Patch(
        row,
        run.count,
        column,
        other.count,
        tensor,
        first_row,
        first_column,
        run.step,
        part.transposed,
        part.change,
        part.factor,
    )


def _transposed_blocks(part: Taken, parallelism: Parallelism, tp_rank: int) -> Iterator[AnyPatch]:
    """The blocks of a rank, each transposed by itself, one below the other."""
    assert part.transposed
    assert part.change is None
    size, start, width = _block(part)
    held = _held_blocks(part, parallelism, tp_rank)
    for place, block in enumerate(held):
        row, source_row = place * part.columns, block * size + start
        yield Patch(row, part.columns, 0, width, part.tensors[0], source_row, transposed=True)


def _block(part: Taken) -> tuple[int, int, int]:
    """Rows of a block, the first that is taken, and how many are."""
    if part.picked is None:
        return part.rows // part.blocks, 0, part.rows // part.blocks
    dim, size, start, stop = part.picked
    assert dim == 0
    assert size * part.blocks == part.rows
    return size, start, stop - start


def _held_blocks(part: Taken, parallelism: Parallelism, tp_rank: int) -> range:
    """The blocks of a rank: all of them, or its share by the split of dim 0."""
    for split in part.splits:
        assert (split.dim, split.pieces) == (0, part.blocks)
        num_ranks, rank = share_of(split.over, parallelism, tp_rank)
        first, count = _held(split, num_ranks, rank)
        return range(first, first + count)
    return range(part.blocks)


def _product(part: TakenProduct, parallelism: Parallelism, tp_rank: int) -> Iterator[AnyPatch]:
    count = part.heads.pieces // parallelism.tp_size
    num_rows, num_columns = part.keys.columns, part.queries.columns
    assert part.queries.picked is not None
    assert part.keys.picked is not None
    _, size, start, stop = part.queries.picked
    _, keys_size, keys_start, _ = part.keys.picked
    for place in range(count):
        head = tp_rank * count + place
        yield ProductPatch(
            place * num_rows,
            num_rows,
            0,
            num_columns,
            part.queries.tensors[0],
            head * size + start,
            part.keys.tensors[0],
            head * keys_size + keys_start,
            stop - start,
        )


def _size(part: Taken | TakenProduct, parallelism: Parallelism, tp_rank: int) -> tuple[int, int]:
    """Rows and columns of a rank's share."""
    if isinstance(part, TakenProduct):
        heads = part.heads.pieces // parallelism.tp_size
        return heads * part.keys.columns, part.queries.columns
    if part.blocks:
        return len(_held_blocks(part, parallelism, tp_rank)) * part.columns, _block(part)[2]
    found = []
    for dim in (0, 1):
        _, _, first, last = _range(part, dim, parallelism, tp_rank)
        found.append(last - first)
    return found[0], found[1]


def _runs(part: Taken, dim: int, parallelism: Parallelism, tp_rank: int) -> tuple[list[_Run], int]:
    """Runs of the source for a dim of the target, and how many zeros follow."""
    _, whole, first, last = _range(part, dim, parallelism, tp_rank)
    kept = max(0, min(last, whole) - first)
    zeros = last - first - kept
    if not kept:
        return [], zeros
    source_dim = 1 - dim if part.transposed else dim
    if part.picked is None or part.picked[0] != source_dim:
        return [_Run(first, 1, kept)], zeros
    _, size, start, stop = part.picked
    return list(_picked_runs(size, start, stop - start, whole, first, first + kept)), zeros


def _picked_runs(
    size: int, start: int, width: int, whole: int, first: int, last: int
) -> Iterator[_Run]:
    """Where `first:last` of a pick lies in its source."""
    if width == whole:
        yield _Run(start + first, 1, last - first)
    elif width == 1:
        yield _Run(first * size + start, size, last - first)
    else:
        while first < last:
            group, inside = divmod(first, width)
            count = min(width - inside, last - first)
            yield _Run(group * size + start + inside, 1, count)
            first += count


def _range(
    part: Taken, dim: int, parallelism: Parallelism, tp_rank: int
) -> tuple[Split | None, int, int, int]:
    """The split of a dim, its size without padding, and the rank's range of it."""
    source_dim = 1 - dim if part.transposed else dim
    whole = part.columns if source_dim else part.rows
    if part.picked is not None and part.picked[0] == source_dim:
        _, size, start, stop = part.picked
        whole = whole // size * (stop - start)
    for split in part.splits:
        num_ranks, rank = share_of(split.over, parallelism, tp_rank)
        if split.dim == dim and num_ranks > 1:
            first, count = _held(split, num_ranks, rank)
            piece = whole // split.pieces
            return split, whole, first * piece, (first + count) * piece
    return None, whole, 0, whole


def _held(split: Split, num_ranks: int, rank: int) -> tuple[int, int]:
    """First piece and number of pieces of a rank; padding counts as pieces."""
    if split.replicate and split.pieces < num_ranks:
        return rank // (num_ranks // split.pieces), 1
    count = -(-split.pieces // num_ranks)
    return rank * count, count


def fits(split: Split, num_ranks: int) -> bool:
    """Whether that many ranks can share the dim."""
    even = split.pieces % num_ranks == 0
    return split.pad or even or (split.replicate and num_ranks % split.pieces == 0)


def all_splits(makings: Sequence[Making]) -> set[Split]:
    """Every way in which something is shared."""
    found: set[Split] = set()
    for making in makings:
        for part in making.parts:
            found |= {part.heads} if isinstance(part, TakenProduct) else set(part.splits)
    return found
