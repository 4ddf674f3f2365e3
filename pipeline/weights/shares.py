"""Which part of a source tensor each tp rank gets, and which tp sizes a model allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.artifact import Json
from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.errors import RecipeError
from pipeline.weights.expressions import Cast, Expression, Join, Slice, Zeros
from pipeline.weights.parallel import Parallelism
from pipeline.weights.rules import Drop, Shard, WeightRule, applies

_LARGEST_HINTED = 1024


def share(
    tensor: TensorInfo,
    shard: Shard | None,
    facts: Mapping[str, Json],
    tp_size: int,
    tp_rank: int,
    dtype: str,
) -> Expression:
    """A tp rank's part of a tensor, in `dtype`. Sizes must have passed `check_parallelism`."""
    if shard is None:
        return _cast(Slice(tensor, (0,) * len(tensor.shape), tensor.shape), dtype)
    num_pieces = facts[shard.unit]
    first, count = _pieces(shard, num_pieces, tp_size, tp_rank)
    kept = max(0, min(count, num_pieces - first))
    piece = tensor.shape[shard.dim] // num_pieces
    parts: list[Expression] = []
    if kept:
        start = _with(tuple(0 for _ in tensor.shape), shard.dim, first * piece)
        box = Slice(tensor, start, _with(tensor.shape, shard.dim, kept * piece))
        parts.append(_cast(box, dtype))
    if kept < count:
        parts.append(Zeros(dtype, _with(tensor.shape, shard.dim, (count - kept) * piece)))
    return parts[0] if len(parts) == 1 else Join(tuple(parts), shard.dim)


def check_parallelism(
    rules: Sequence[WeightRule], facts: Mapping[str, Json], parallelism: Parallelism
) -> None:
    """Raise RecipeError where a tensor cannot be shared by tp_size, or a pp rank has no layer."""
    num_layers = facts["num_hidden_layers"]
    if parallelism.pp_size > num_layers:
        raise RecipeError(
            f"`checkpoint.pp_size` is {parallelism.pp_size}, but the model has {num_layers} layers",
            hint=f"use `pp_size: {num_layers}` or less",
        )
    shards = {
        part.shard
        for rule in rules
        if not isinstance(rule, Drop) and applies(rule, facts)
        for part in rule.parts
        if part.shard is not None
    }
    tp_size = parallelism.tp_size
    uneven = sorted({shard.unit for shard in shards if not _fits(shard, facts, tp_size)})
    if not uneven:
        return
    sizes = range(1, _LARGEST_HINTED + 1)
    working = [size for size in sizes if all(_fits(shard, facts, size) for shard in shards)]
    told = ", ".join(f"`{unit}` {facts[unit]}" for unit in uneven)
    raise RecipeError(
        f"`checkpoint.tp_size` is {tp_size}, which does not fit {told}",
        hint=f"tp sizes that work for this model: {', '.join(str(size) for size in working)}",
    )


def _fits(shard: Shard, facts: Mapping[str, Json], tp_size: int) -> bool:
    num_pieces = facts[shard.unit]
    even = num_pieces % tp_size == 0
    return bool(shard.pad or even or (shard.replicate and tp_size % num_pieces == 0))


def _pieces(shard: Shard, num_pieces: int, tp_size: int, tp_rank: int) -> tuple[int, int]:
    """First piece and number of pieces of a rank; padding counts as pieces."""
    if shard.replicate and num_pieces < tp_size:
        return tp_rank // (tp_size // num_pieces), 1
    count = -(-num_pieces // tp_size)
    return tp_rank * count, count


def _cast(box: Slice, dtype: str) -> Expression:
    return box if box.dtype == dtype else Cast(box, dtype)


def _with(shape: tuple[int, ...], dim: int, size: int) -> tuple[int, ...]:
    return (*shape[:dim], size, *shape[dim + 1 :])
