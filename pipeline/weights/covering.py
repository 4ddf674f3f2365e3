"""Whether patches, over all rank files, hold every value of a source tensor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.weights.patches import AnyPatch, ProductPatch, matrix

Box = tuple[int, int, int, int, int]
"""First row, number of rows, row step, first column, number of columns."""


def boxes_of(patch: AnyPatch) -> Iterable[tuple[TensorInfo, Box]]:
    """The values of sources that a patch holds."""
    if isinstance(patch, ProductPatch):
        keys = ((patch.keys_row, patch.inner), (patch.keys_column, patch.num_rows))
        queries = ((patch.queries_row, patch.inner), (patch.queries_column, patch.num_columns))
        for info, sides, is_turned in (
            (patch.keys, keys, patch.keys_transposed),
            (patch.queries, queries, patch.queries_transposed),
        ):
            (row, rows), (column, columns) = reversed(sides) if is_turned else sides
            yield info, (row, rows, 1, column, columns)
    elif patch.source is not None:
        counts = patch.num_rows, patch.num_columns
        rows, columns = reversed(counts) if patch.transposed else counts
        first = (patch.source_row, rows, patch.row_step)
        yield patch.source, (*first, patch.source_column, columns)


def uncovered(boxes: Iterable[Box], shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Ranges of rows of a source of which some value is in no box."""
    found = set(boxes)
    rows, columns = matrix(shape)
    step = max((box[2] for box in found), default=1)
    if step > 1:
        return _uncovered_steps(found, rows, columns, step)
    return _gaps(found, rows, columns)


def _gaps(boxes: set[Box], rows: int, columns: int) -> list[tuple[int, int]]:
    """Between two neighbouring starts or ends of boxes, all rows are covered alike."""
    edges = sorted({0, rows, *(b[0] for b in boxes), *(b[0] + b[1] for b in boxes)})
    ordered = sorted(boxes)
    gaps: list[tuple[int, int]] = []
    active: list[Box] = []
    place = 0
    for first, last in pairwise(edges):
        while place < len(ordered) and ordered[place][0] <= first:
            active.append(ordered[place])
            place += 1
        active = [box for box in active if box[0] + box[1] > first]
        if not _is_full(sorted((box[3], box[3] + box[4]) for box in active), columns):
            gaps.append((first, last))
    return gaps


def _is_full(spans: Sequence[tuple[int, int]], columns: int) -> bool:
    position = 0
    for start, stop in spans:
        if start > position:
            return False
        position = max(position, stop)
    return position >= columns


def _uncovered_steps(boxes: set[Box], rows: int, columns: int, step: int) -> list[tuple[int, int]]:
    """Rows taken every `step`th: each remainder by `step` is a matrix of its own."""
    gaps: list[tuple[int, int]] = []
    for remainder in range(step):
        own = set()
        for first, count, box_step, column, width in boxes:
            if box_step == step and first % step == remainder:
                own.add((first // step, count, 1, column, width))
            elif box_step == 1:
                start, stop = (-(-(edge - remainder) // step) for edge in (first, first + count))
                own.add((start, stop - start, 1, column, width))
        size = -(-(rows - remainder) // step)
        gaps += [(a * step + remainder, b * step + remainder) for a, b in _gaps(own, size, columns)]
    return gaps
