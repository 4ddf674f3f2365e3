"""What each rank gets, for any rule, against plain numpy on whole arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.weights.blocks import Reader, Wanted, evaluate
from pipeline.weights.coverage import cover
from pipeline.weights.covering import boxes_of, uncovered
from pipeline.weights.layout import TargetTensor
from pipeline.weights.parallel import Parallelism
from pipeline.weights.patches import byte_ranges, matrix
from pipeline.weights.rules import Make, Part, Pick, Projection, Shard
from pipeline.weights.shares import target_shape

Array = np.ndarray[Any, Any]
FACTS: dict[str, Any] = {"num_hidden_layers": 1}


class Case:
    """A rule, its sources in one file, and what the whole target is."""

    def __init__(self, make: Make, arrays: dict[str, Array], folder: Path) -> None:
        path = folder / "source"
        tensors, offset = {}, 0
        with path.open("wb") as file:
            for name, array in arrays.items():
                file.write(array.tobytes())
                info = TensorInfo(name, "float32", array.shape, "source", offset, array.nbytes)
                tensors[name] = info
                offset += array.nbytes
        self.path, self.tensors = path, tensors
        self.coverage = cover([make], FACTS, tensors)

    def target(self, parallelism: Parallelism, tp_rank: int) -> TargetTensor:
        (making,) = self.coverage.makings
        shape = target_shape(making, parallelism, tp_rank)
        return TargetTensor("t", "float32", shape, making, parallelism, tp_rank)

    def values(self, target: TargetTensor, step: int) -> Array:
        """The target's values, made `step` rows at a time."""
        rows, columns = matrix(target.shape)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            reader = Reader({"source": descriptor})
            wanted = Wanted("float32")
            made = [
                evaluate(target.patches, wanted, start, min(start + step, rows), reader)
                for start in range(0, rows, step)
            ]
        finally:
            os.close(descriptor)
        return np.concatenate(made).reshape(rows, columns).view(np.float32).reshape(target.shape)


def numbered(start: int, *shape: int) -> Array:
    """Values that are all different."""
    return (start + np.arange(np.prod(shape))).reshape(shape).astype(np.float32)


def picked(array: Array, dim: int, groups: int, start: int, stop: int) -> Array:
    """Of every group of a dim, a range."""
    moved = np.moveaxis(array, dim, 0)
    rest = moved.shape[1:]
    cut = moved.reshape(groups, -1, *rest)[:, start:stop].reshape(-1, *rest)
    return np.moveaxis(cut, 0, dim)


def share(array: Array, dim: int, pieces: int, ranks: int, rank: int) -> Array:
    """Even pieces, padded with zeros or repeated where there are fewer than ranks."""
    if pieces < ranks and ranks % pieces == 0:
        return np.split(array, pieces, axis=dim)[rank // (ranks // pieces)]
    size = array.shape[dim] // pieces
    short = -pieces % ranks * size
    widths = [(0, short if d == dim else 0) for d in range(array.ndim)]
    return np.split(np.pad(array, widths), ranks, axis=dim)[rank]


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_rule_of_one_part(data: st.DataObject, tmp_path_factory: Any) -> None:
    draw = data.draw
    folder = tmp_path_factory.mktemp("share")
    groups, size, other = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    dim, transposed = draw(st.integers(0, 1)), draw(st.booleans())
    start = draw(st.integers(0, size - 1))
    stop = draw(st.integers(start + 1, size))
    # Columns that a pick takes one by one from every group are not one run of bytes.
    columns_only = (dim == 1) != transposed
    if (columns_only or transposed) and stop - start == 1 and size > 1:
        groups = 1
    shape = (groups * size, other) if dim == 0 else (other, groups * size)
    array = numbered(1, *shape)
    cut = picked(array, dim, groups, start, stop)
    cut = cut.T if transposed else cut
    shard_dim, ranks = draw(st.integers(0, 1)), draw(st.integers(1, 4))
    whole = cut.shape[shard_dim]
    pieces = draw(st.sampled_from([n for n in range(1, whole + 1) if whole % n == 0]))
    replicate = pieces < ranks and ranks % pieces == 0
    shard = Shard(shard_dim, str(pieces), replicate=replicate, pad=not replicate)
    pick = Pick(dim, str(groups), str(start), str(stop))
    part = Part("s", tuple(map(str, shape)), (shard,), pick, transposed)
    case = Case(Make("t", (part,)), {"s": array}, folder)
    step = draw(st.integers(1, 7))
    for rank in range(ranks):
        target = case.target(Parallelism(ranks), rank)
        wanted = share(cut, shard_dim, pieces, ranks, rank)
        assert target.shape == wanted.shape
        assert np.array_equal(case.values(target, step), wanted)
        ranges = byte_ranges(target.patches, "float32", target.shape)
        if ranges is not None:
            assert sum(item.num_bytes for item in ranges) == target.num_bytes


@pytest.mark.parametrize("moe_ep_size", [1, 2, 4])
@pytest.mark.parametrize("kind", ["one per expert", "stacked", "stacked as a matrix"])
def test_experts(kind: str, moe_ep_size: int, tmp_path: Path) -> None:
    """[experts, up then gate, columns]; ranks share experts, and the rows of each half."""
    up, gate = numbered(1, 4, 8, 3), numbered(1000, 4, 8, 3)
    shard = (Shard(0, "8", over="moe_tp"),)
    if kind == "one per expert":
        parts = tuple(Part(f"{n}.{{expert}}", ("8", "3"), shard) for n in ("up", "gate"))
        arrays = {f"up.{e}": up[e] for e in range(4)} | {f"gate.{e}": gate[e] for e in range(4)}
    else:
        whole = np.concatenate([gate, up], axis=1)
        shape = ("4", "16", "3") if kind == "stacked" else ("4*16", "3")
        arrays = {"s": whole if kind == "stacked" else whole.reshape(64, 3)}
        halves = (Pick(0, "1", "8", "16"), Pick(0, "1", "0", "8"))
        parts = tuple(Part("s", shape, shard, half, stacked=True) for half in halves)
    case = Case(Make("t", parts, experts="4"), arrays, tmp_path)
    parallelism = Parallelism(4, moe_ep_size=moe_ep_size)
    boxes: dict[str, set[Any]] = {}
    for rank in range(4):
        target = case.target(parallelism, rank)
        held = list(parallelism.experts(rank, 4))
        moe_tp_size, moe_tp_rank = 4 // moe_ep_size, rank // moe_ep_size
        halves_of_rank = [
            np.split(half[held], moe_tp_size, axis=1)[moe_tp_rank] for half in (up, gate)
        ]
        wanted = np.concatenate(halves_of_rank, axis=1)
        assert target.shape == wanted.shape
        assert np.array_equal(case.values(target, 5), wanted)
        for patch in target.patches:
            for info, box in boxes_of(patch):
                boxes.setdefault(info.name, set()).add(box)
    assert boxes.keys() == arrays.keys()
    assert not any(uncovered(boxes[name], arrays[name].shape) for name in arrays)


def test_parts_that_are_joined_group_by_group(tmp_path: Path) -> None:
    """Of 4 heads, 2 rows of one source, then 3 of another; 2 ranks have 2 heads each."""
    first, second = numbered(1, 8, 3), numbered(100, 12, 3)
    shard = (Shard(0, "4"),)
    parts = (Part("a", ("8", "3"), shard), Part("b", ("12", "3"), shard))
    case = Case(Make("t", parts, groups="4"), {"a": first, "b": second}, tmp_path)
    whole = np.concatenate([first.reshape(4, 2, 3), second.reshape(4, 3, 3)], axis=1)
    for rank in range(2):
        target = case.target(Parallelism(2), rank)
        assert np.array_equal(case.values(target, 3), whole[2 * rank : 2 * rank + 2].reshape(10, 3))


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("embedding_dim", [None, 0, 1])
def test_projections(embedding_dim: int | None, transposed: bool, tmp_path: Path) -> None:
    """Rows (padded) or columns of `rows @ by` may be shared; small integers multiply exactly."""
    rows, by = numbered(1, 5, 3), numbered(1, 4, 3) if transposed else numbered(1, 3, 4)
    whole = rows @ (by.T if transposed else by)
    projection = Projection(
        Part("r", ("5", "3"), (Shard(0, "5", pad=True, over="embedding_rows"),)),
        Part(
            "b",
            tuple(map(str, by.shape)),
            (Shard(1, "4", over="embedding_columns"),),
            transposed=transposed,
        ),
    )
    case = Case(Make("t", (projection,)), {"r": rows, "b": by}, tmp_path)
    boxes: dict[str, set[Any]] = {}
    for rank in range(2):
        target = case.target(Parallelism(2, embedding_dim=embedding_dim), rank)
        wanted = whole
        if embedding_dim is not None:
            pieces = whole.shape[embedding_dim]
            wanted = share(whole, embedding_dim, pieces, 2, rank)
        assert target.shape == wanted.shape
        assert np.array_equal(case.values(target, 2), wanted)
        for patch in target.patches:
            for info, box in boxes_of(patch):
                boxes.setdefault(info.name, set()).add(box)
    assert not any(uncovered(boxes[name], case.tensors[name].shape) for name in ("r", "b"))
