"""The round trip: rank files taken apart again and compared with the source, every byte of both.

Independent of the conversion: what a rank file must hold is `inventory`'s statement, where its
parts come from is `placement`'s. Only the rule that a source tensor is dropped is taken on trust.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
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
from pipeline.weights.files import open_all
from pipeline.weights.inventory import expected_inventory, loader_sources
from pipeline.weights.layout import ConversionPlan, inventory_faults
from pipeline.weights.parallel import Parallelism
from pipeline.weights.placement import Misplaced, Piece, place_target, uncovered
from pipeline.weights.stream import MAX_BLOCK_BYTES, MAX_THREADS, check_source

if TYPE_CHECKING:
    from pipeline.weights.comparison import Error, Tally

_HINT = "do not use this checkpoint; convert again, and report it if it fails again"


@dataclass(frozen=True, slots=True)
class _Placed:
    """A target tensor and the pieces that fill it."""

    target: TensorInfo
    pieces: tuple[Piece, ...]


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
    placed = list(_place(plan, checkpoint, faults))
    faults += _coverage_faults(plan, placed)
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
        expected = expected_inventory(plan.family.inventory, checkpoint.config, rank)
        faults += inventory_faults(rank_file(rank), found, expected)
    return faults


def _place(
    plan: ConversionPlan, checkpoint: TrtllmCheckpoint, faults: list[str]
) -> Iterator[_Placed]:
    """Every target tensor with its pieces; the tp ranks of one tensor follow each other."""
    config = checkpoint.config
    parallelism = Parallelism(*checkpoint.parallelism)
    for pp_rank in range(parallelism.pp_size):
        first_layer = parallelism.layers(pp_rank, config["num_hidden_layers"]).start
        first_rank = parallelism.rank(pp_rank, 0)
        for name in checkpoint.ranks[first_rank]:
            sources = _sources(plan, name, first_layer)
            unit = config["head_size"] if ".qkv." in name else 1
            for tp_rank in range(parallelism.tp_size):
                target = checkpoint.ranks[first_rank + tp_rank].get(name)
                if target is None:
                    continue  # already a fault of the inventory
                try:
                    found = [plan.source.tensors[source] for source in sources]
                    pieces = place_target(target, found, tp_rank, parallelism.tp_size, unit)
                except KeyError as missing:
                    faults.append(f"`{name}` has no source: `{missing.args[0]}` is not there")
                except Misplaced as misplaced:
                    faults.append(f"`{name}` of `{target.file}`: {misplaced}")
                else:
                    yield _Placed(target, tuple(pieces))


def _sources(plan: ConversionPlan, name: str, first_layer: int) -> tuple[str, ...]:
    """The loader's sources; without a head of its own, the head is the embedding."""
    words = plan.family.words
    sources = loader_sources(name, first_layer, words)
    is_tied = sources[0] not in plan.source.tensors or sources[0] in plan.coverage.dropped
    if name == "lm_head.weight" and is_tied:
        return loader_sources("transformer.vocab_embedding.weight", 0, words)
    return sources


def _coverage_faults(plan: ConversionPlan, placed: list[_Placed]) -> list[str]:
    """Source bytes that are in no rank file."""
    held: dict[str, list[Piece]] = {}
    for item in placed:
        for piece in item.pieces:
            if piece.source is not None:
                held.setdefault(piece.source.name, []).append(piece)
    faults = []
    for name, info in plan.source.tensors.items():
        if name in held:
            gaps = uncovered(held[name], info)
            faults += [f"{start}:{stop} of `{name}` is in no rank file" for start, stop in gaps]
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
    from pipeline.weights.blocks import Reader
    from pipeline.weights.comparison import Tally, compare_piece

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
            for piece in item.pieces:
                tally.add(compare_piece(piece, item.target, *readers, max_block_bytes // threads))
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
    used: Mapping[str, TensorInfo] = {
        piece.source.name: piece.source
        for item in placed
        for piece in item.pieces
        if piece.source is not None
    }
    cast = sum(info.dtype != plan.dtype for info in used.values())
    return {
        "source_tensors": len(used),
        "source_bytes": sum(info.num_bytes for info in used.values()),
        "target_tensors": len(placed),
        "target_bytes": tally.num_bytes,
        "exact_tensors": len(used) - cast,
        "cast_tensors": cast,
        "dropped_tensors": len(plan.coverage.dropped),
        "largest_absolute_error": _error(tally.absolute),
        "largest_relative_error": _error(tally.relative),
    }


def _error(error: Error) -> Json:
    return {"value": error.value, "tensor": error.tensor} if error.tensor else None


def _mismatch(faults: list[str]) -> VerificationError:
    return VerificationError(
        "the rank files do not hold the source checkpoint: "
        f"{len(faults)} fault{'s' if len(faults) != 1 else ''}",
        facts=listed(faults),
        hint=_HINT,
    )
