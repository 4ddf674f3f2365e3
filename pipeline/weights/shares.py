"""Which values of a rule's sources each rank gets: rules become patches.

Pure arithmetic on row and column numbers. Patches are made when they are asked for, so that the
plan of a model with a hundred thousand tensors stays small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.weights.makings import (
    AnyTaken,
    Making,
    Split,
    Taken,
    TakenProduct,
    TakenProjection,
    taken_of,
)
from pipeline.weights.parallel import Parallelism
from pipeline.weights.patches import AnyPatch, Patch, ProductPatch
from pipeline.weights.runs import Run, held, range_of, runs_of, share_of


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
    part: AnyTaken, parallelism: Parallelism, tp_rank: int, expert: int | None
) -> Iterator[AnyPatch]:
    if isinstance(part, TakenProduct):
        yield from _product(part, parallelism, tp_rank)
        return
    if isinstance(part, TakenProjection):
        yield from _projection(part, parallelism, tp_rank)
        return
    if part.blocks:
        yield from _transposed_blocks(part, parallelism, tp_rank)
        return
    single = len(part.tensors) == 1
    tensor = part.tensors[0 if single else expert or 0]
    base = (expert or 0) * part.rows if single else 0
    row = 0
    rows, row_zeros = runs_of(part, 0, parallelism, tp_rank)
    columns, column_zeros = runs_of(part, 1, parallelism, tp_rank)
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
    part: Taken, tensor: TensorInfo, base: int, row: int, column: int, run: Run, other: Run
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
        first, count = held(split, num_ranks, rank)
        return range(first, first + count)
    return range(part.blocks)


def _projection(
    part: TakenProjection, parallelism: Parallelism, tp_rank: int
) -> Iterator[AnyPatch]:
    """A rank's rows, projected to its columns; rows of padding are zeros."""
    rows, zeros = runs_of(part.rows, 0, parallelism, tp_rank)
    _, first, last = range_of(part.by, 1, parallelism, tp_rank)
    for run in rows:
        yield ProductPatch(
            0,
            run.count,
            0,
            last - first,
            part.by.tensors[0],
            0,
            part.rows.tensors[0],
            0,
            part.rows.columns,
            run.start,
            first,
            keys_transposed=True,
            queries_transposed=part.by.transposed,
        )
    if zeros:
        yield Patch(sum(run.count for run in rows), zeros, 0, last - first)


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


def _size(part: AnyTaken, parallelism: Parallelism, tp_rank: int) -> tuple[int, int]:
    """Rows and columns of a rank's share."""
    if isinstance(part, TakenProduct):
        heads = part.heads.pieces // parallelism.tp_size
        return heads * part.keys.columns, part.queries.columns
    if isinstance(part, TakenProjection):
        _, top, bottom = range_of(part.rows, 0, parallelism, tp_rank)
        _, left, right = range_of(part.by, 1, parallelism, tp_rank)
        return bottom - top, right - left
    if part.blocks:
        return len(_held_blocks(part, parallelism, tp_rank)) * part.columns, _block(part)[2]
    found = []
    for dim in (0, 1):
        _, first, last = range_of(part, dim, parallelism, tp_rank)
        found.append(last - first)
    return found[0], found[1]


def all_splits(makings: Sequence[Making]) -> set[Split]:
    """Every way in which something is shared."""
    found: set[Split] = set()
    for making in makings:
        for part in making.parts:
            found |= {part.heads} if isinstance(part, TakenProduct) else set()
            found |= {split for taken in taken_of(part) for split in taken.splits}
    return found
