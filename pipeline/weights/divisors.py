"""Which parallel sizes a model allows; what does not fit is refused with those that do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.artifact import Json
from pipeline.errors import RecipeError
from pipeline.weights.makings import Making, Split
from pipeline.weights.model_class import ModelClass
from pipeline.weights.parallel import Parallelism
from pipeline.weights.rules import Over
from pipeline.weights.runs import fits
from pipeline.weights.shares import all_splits

_LARGEST_HINTED = 1024


def check_pipeline(model_class: ModelClass, parallelism: Parallelism) -> None:
    """Raise RecipeError for several pp ranks of a class that neither sends nor receives."""
    if parallelism.pp_size > 1 and not model_class.is_pipelined:
        raise RecipeError(
            f"`checkpoint.pp_size` is {parallelism.pp_size}, but TensorRT-LLM's class "
            f"`{model_class.name}` computes all layers on each rank",
            hint="use `pp_size: 1`, and `tp_size` for several GPUs",
        )


def check_parallelism(
    makings: Sequence[Making], facts: Mapping[str, Json], parallelism: Parallelism
) -> None:
    """Raise RecipeError where a tensor cannot be shared as asked, or a pp rank has no layer."""
    num_layers = facts["num_hidden_layers"]
    if parallelism.pp_size > num_layers:
        raise RecipeError(
            f"`checkpoint.pp_size` is {parallelism.pp_size}, but the model has {num_layers} layers",
            hint=f"use `pp_size: {num_layers}` or less",
        )
    splits = all_splits(makings)
    _check_embedding(splits, parallelism)
    sizes = {"tp": parallelism.tp_size, "moe_tp": parallelism.moe_tp_size}
    for over, size in sizes.items():
        _check("tp" if over == "tp" else "moe_tp", _of(splits, over, parallelism), size)
    _check_experts(makings, parallelism)


def _check_embedding(splits: set[Split], parallelism: Parallelism) -> None:
    """A class that keeps its embedding whole has no rule that shares it."""
    shared = {"embedding_rows", "embedding_columns"} & {split.over for split in splits}
    if parallelism.embedding_dim is not None and not shared:
        raise RecipeError(
            "`checkpoint.use_parallel_embedding` is true, but TensorRT-LLM's class keeps the "
            "embedding of this model whole",
            hint="remove `use_parallel_embedding`",
        )


def _of(splits: set[Split], over: str, parallelism: Parallelism) -> list[Split]:
    """The splits that a size decides; a parallel embedding is shared by the tp ranks."""
    if over == "moe_tp":
        return [split for split in splits if split.over == "moe_tp"]
    dim = {"embedding_rows": 0, "embedding_columns": 1}
    wanted = [name for name, number in dim.items() if number == parallelism.embedding_dim]
    return [split for split in splits if split.over == "tp" or split.over in wanted]


def _check(over: Over, splits: Sequence[Split], size: int) -> None:
    uneven = sorted({(split.unit, split.pieces) for split in splits if not fits(split, size)})
    if not uneven:
        return
    working = [n for n in range(1, _LARGEST_HINTED + 1) if all(fits(s, n) for s in splits)]
    told = ", ".join(f"`{unit}` {pieces}" for unit, pieces in uneven)
    kind = over.replace("_", " ")
    raise RecipeError(
        f"`checkpoint.{over}_size` is {size}, which does not fit {told}",
        hint=f"{kind} sizes that work for this model: {', '.join(str(size) for size in working)}",
    )


def _check_experts(makings: Sequence[Making], parallelism: Parallelism) -> None:
    size = parallelism.moe_ep_size
    counts = sorted({making.num_experts for making in makings if making.num_experts})
    if size > 1 and parallelism.cp_size > 1:
        raise RecipeError(
            f"`checkpoint.cp_size` is {parallelism.cp_size} and `checkpoint.moe_ep_size` {size}: "
            "TensorRT-LLM 1.2 cannot do both (its `mapping.py`)",
            hint="set one of them to 1",
        )
    if size > 1 and not counts:
        raise RecipeError(
            f"`checkpoint.moe_ep_size` is {size}, but the model has no experts",
            hint="leave `moe_ep_size` out",
        )
    for count in counts:
        if count % size:
            working = [n for n in range(1, count + 1) if count % n == 0]
            raise RecipeError(
                f"`checkpoint.moe_ep_size` is {size}, which does not fit {count} experts",
                hint=f"moe_ep sizes that work for this model: {', '.join(map(str, working))}",
            )
