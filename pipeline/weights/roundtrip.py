"""The round trip: rank files taken apart again and compared with the source, every byte of both.

What a rank file must hold is the model class's statement (`inventory`), not the rules'. Every patch
of every rank file is compared with its source, and the patches must hold every value of the source:
then the source can be had back from the rank files, bit by bit, where no cast lost any.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifact import Json
from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.checkpoint.strict_json import listed
from pipeline.checkpoint.trtllm import TrtllmCheckpoint, open_trtllm_checkpoint, rank_file
from pipeline.errors import VerificationError
from pipeline.progress import Progress
from pipeline.weights.covering import Box, boxes_of, uncovered
from pipeline.weights.files import open_all
from pipeline.weights.inventory import expected_inventory
from pipeline.weights.layout import ConversionPlan, TargetTensor, inventory_faults
from pipeline.weights.patches import matrix
from pipeline.weights.rules import Part
from pipeline.weights.stream import MAX_BLOCK_BYTES, MAX_THREADS, check_source
from pipeline.wording import counted

if TYPE_CHECKING:
    from pipeline.weights.comparison import Error, Tally

_HINT = "do not use this checkpoint; convert again, and report it if it fails again"


@dataclass(frozen=True, slots=True)
class _Placed:
    """A target tensor as it was written, and as it was planned."""

    target: TensorInfo
    planned: TargetTensor


def compare(
    plan: ConversionPlan,
    source_dir: Path,
    checkpoint_dir: Path,
    progress: Progress,
    max_block_bytes: int = MAX_BLOCK_BYTES,
) -> Json:
    """Compare a written checkpoint with its source; the parity record.

    Without a cast the bytes must be equal; with one, they must be those of the cast source, and
    the largest errors are reported. Replicas must be equal on all ranks, padding must be zero,
    every byte of the source that was not dropped must be in a rank file, and every rank file must
    hold exactly what TensorRT-LLM requires. Raises VerificationError naming the tensors.
    """
    check_source(plan, source_dir)
    checkpoint = open_trtllm_checkpoint(checkpoint_dir)
    if checkpoint.config != plan.config:
        keys = sorted(
            key
            for key in {*checkpoint.config, *plan.config}
            if checkpoint.config.get(key) != plan.config.get(key)
        )
        raise VerificationError(
            "`config.json` of the checkpoint is not the one that was planned",
            facts=[f"`{key}` differs" for key in keys],
            hint=_HINT,
        )
    faults = _inventory_faults(plan, checkpoint)
    if faults:
        raise _mismatch(faults)
    placed = [
        _Placed(checkpoint.ranks[number][tensor.name], tensor)
        for number, rank in enumerate(plan.ranks)
        for tensor in rank.tensors
    ]
    faults += _coverage_faults(plan)
    if faults:
        raise _mismatch(faults)
    progress.start("comparing with the source", sum(item.target.num_bytes for item in placed))
    tally = _compare_all(plan, placed, source_dir, checkpoint_dir, progress, max_block_bytes)
    if tally.faults:
        raise _mismatch(tally.faults)
    return _record(plan, placed, tally)


def _inventory_faults(plan: ConversionPlan, checkpoint: TrtllmCheckpoint) -> list[str]:
    faults = []
    for rank, tensors in enumerate(checkpoint.ranks):
        found = [(info.name, (info.dtype, info.shape)) for info in tensors.values()]
        expected = expected_inventory(plan.family.model_class.parameters, checkpoint.config, rank)
        faults += inventory_faults(rank_file(rank), found, expected)
    return faults


def _coverage_faults(plan: ConversionPlan) -> list[str]:
    """Source values that are in no rank file."""
    held: dict[str, set[Box]] = {}
    for rank in plan.ranks:
        for tensor in rank.tensors:
            for patch in tensor.patches:
                for info, box in boxes_of(patch):
                    held.setdefault(info.name, set()).add(box)
    faults = []
    for name, info in plan.source.tensors.items():
        boxes = held.get(name, set())
        if name in plan.coverage.unused:
            start, stop = plan.coverage.unused[name]
            boxes = boxes | {(start, stop - start, 1, 0, matrix(info.shape)[1])}
        if boxes:
            gaps = uncovered(boxes, info.shape)
            faults += [f"rows {a}:{b} of `{name}` are not whole in the rank files" for a, b in gaps]
        elif name not in plan.coverage.dropped:
            faults.append(f"`{name}` is in no rank file")
    return faults


def _compare_all(
    plan: ConversionPlan,
    placed: list[_Placed],
    source_dir: Path,
    checkpoint_dir: Path,
    progress: Progress,
    max_block_bytes: int,
) -> Tally:
    from pipeline.weights.blocks import Reader, Wanted
    from pipeline.weights.comparison import Tally, compare_patch

    threads = min(MAX_THREADS, os.cpu_count() or 1)
    rank_files = [rank.file for rank in plan.ranks]
    with (
        open_all(source_dir, plan.source.weight_files, os.O_RDONLY) as sources,
        open_all(checkpoint_dir, rank_files, os.O_RDONLY) as targets,
        ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool,
    ):

        def compare_tensor(item: _Placed) -> Tally:
            tally = Tally()
            readers = Reader(targets), Reader(sources)
            wanted = Wanted(item.target.dtype, plan.clamp)
            for patch in item.planned.patches:
                share = max_block_bytes // threads
                tally.add(compare_patch(patch, item.target, readers, wanted, share))
            return tally

        total = Tally()
        try:
            for item, tally in zip(placed, pool.map(compare_tensor, placed), strict=True):
                total.add(tally)
                progress.advance(item.target.num_bytes)
        finally:
            pool.shutdown(cancel_futures=True)
    assert total.faults or total.num_bytes == sum(item.target.num_bytes for item in placed)
    return total


def _record(plan: ConversionPlan, placed: list[_Placed], tally: Tally) -> dict[str, Json]:
    used: dict[str, TensorInfo] = {}
    lossy: set[str] = set()
    changed: set[str] = set()
    for making in plan.coverage.makings:
        dtype = making.rule.dtype or plan.dtype
        is_changed = any(not isinstance(p, Part) or p.change for p in making.rule.parts)
        for info in making.sources:
            used[info.name] = info
            lossy |= {info.name} if info.dtype != dtype else set()
            changed |= {info.name} if is_changed else set()
    cast = len(lossy - changed)
    return {
        "source_tensors": len(used),
        "source_bytes": sum(info.num_bytes for info in used.values()),
        "target_tensors": len(placed),
        "target_bytes": tally.num_bytes,
        "exact_tensors": len(used) - cast - len(changed),
        "cast_tensors": cast,
        "changed_tensors": len(changed),
        "dropped_tensors": len(plan.coverage.dropped),
        "largest_absolute_error": _error(tally.absolute),
        "largest_relative_error": _error(tally.relative),
    }


def _error(error: Error) -> Json:
    return {"value": error.value, "tensor": error.tensor} if error.tensor else None


def _mismatch(faults: list[str]) -> VerificationError:
    return VerificationError(
        f"the rank files do not hold the source checkpoint: {counted(len(faults), 'fault')}",
        facts=listed(faults),
        hint=_HINT,
    )
