"""Which layouts a model allows, and what each needs: other layouts are tried without converting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pipeline.artifact import Json
from pipeline.engines.trtllm.memory.fallback import is_fused_everywhere
from pipeline.engines.trtllm.memory.plan import memory_plan, usable_bytes
from pipeline.engines.trtllm.memory.weights import kv_heads_by_layer, rank_weights
from pipeline.families import find_family
from pipeline.hardware import Gpu
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.gpus import KnownGpu
from pipeline.weights.parallel import Parallelism, parallelism_of

LARGEST_TP, LARGEST_PP = 8, 8
"""Of the layouts that are tried: the GPUs of a node, and as many nodes."""

Layout = tuple[int, int]
"""tp_size, pp_size."""


def smallest_layout(
    config: Mapping[str, Json],
    settings: EngineSettings,
    gpu: Gpu | KnownGpu,
    *,
    fused: bool | None = None,
) -> Layout | None:
    """The fewest GPUs of a kind that hold the engine, as (tp_size, pp_size).

    Of layouts of as many GPUs, that with the larger `tp_size`. None where none of up to 8 x 8 does.
    """
    needs = layout_needs(config, settings, fused=fused)
    return first_fitting(needs, usable_bytes(gpu))


def layout_needs(
    config: Mapping[str, Json], settings: EngineSettings, *, fused: bool | None = None
) -> Iterator[tuple[Layout, int]]:
    """Every layout that the model allows, the smallest first, and what its fullest rank needs."""
    if fused is None:
        fused = is_fused_everywhere(config, settings)
    for laid_out, weights in layouts(config):
        plan = memory_plan(laid_out, settings, fused=fused, weights=weights)
        sizes = plan.parallelism
        yield (sizes.tp_size, sizes.pp_size), plan.fullest.num_bytes


def first_fitting(needs: Iterable[tuple[Layout, int]], usable: int) -> Layout | None:
    """The first layout whose fullest rank has room in so many bytes."""
    return next((layout for layout, need in needs if need <= usable), None)


def with_layout(config: Mapping[str, Json], tp_size: int, pp_size: int) -> dict[str, Json]:
    """The config.json that the same checkpoint would have in another layout.

    Experts stay split the same way: over whole experts where each rank has its own, else by as
    many groups as divide the new `tp_size`.
    """
    asked = parallelism_of(config)
    groups = tp_size if asked.moe_ep_size == asked.tp_size > 1 else asked.moe_ep_size
    experts = groups if tp_size % groups == 0 else 1
    always = find_family(config["architecture"]).model_class.always_parallel_embedding
    dim = (0 if tp_size > 1 else None) if always else asked.embedding_dim
    parallelism = Parallelism(
        tp_size, pp_size, asked.cp_size, moe_ep_size=experts, embedding_dim=dim
    )
    return {
        **config,
        "mapping": parallelism.mapping(),
        "use_parallel_embedding": dim is not None,
        "embedding_sharding_dim": dim or 0,
    }


def layouts(config: Mapping[str, Json]) -> Iterator[tuple[dict[str, Json], tuple[int, ...]]]:
    """Every layout up to 8 x 8 that the model allows: its config.json, and bytes of its pp ranks.

    The fewest GPUs come first, and of as many GPUs those with the larger `tp_size`.
    """
    model_class = find_family(config["architecture"]).model_class
    largest_pp = min(LARGEST_PP, config["num_hidden_layers"]) if model_class.is_pipelined else 1
    sizes = [
        (tp_size, pp_size)
        for tp_size in range(1, LARGEST_TP + 1)
        if _heads_divide(config, tp_size)
        for pp_size in range(1, largest_pp + 1)
    ]
    for tp_size, pp_size in sorted(sizes, key=lambda size: (size[0] * size[1], size[1])):
        laid_out = with_layout(config, tp_size, pp_size)
        try:
            yield laid_out, rank_weights(laid_out)
        except ValueError:
            continue


def _heads_divide(config: Mapping[str, Json], tp_size: int) -> bool:
    """Query heads are shared evenly; K/V heads too, or each is repeated equally often."""
    if config["num_attention_heads"] % tp_size:
        return False
    return all(
        count % tp_size == 0 or tp_size % count == 0 for count in kv_heads_by_layer(config) if count
    )
