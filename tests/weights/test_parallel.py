"""Ranks and layers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.weights.parallel import Parallelism


@given(st.integers(1, 9), st.integers(1, 200))
def test_layers_are_split_as_numpy_splits(pp_size: int, num_layers: int) -> None:
    """TensorRT-LLM splits with torch's tensor_split, which does as numpy's array_split."""
    parallelism = Parallelism(1, pp_size)
    found = [list(parallelism.layers(rank, num_layers)) for rank in range(pp_size)]
    assert found == [part.tolist() for part in np.array_split(np.arange(num_layers), pp_size)]


def test_tp_ranks_run_fastest() -> None:
    parallelism = Parallelism(4, 2)
    assert parallelism.world_size == 8
    assert [parallelism.file_number(pp, tp) for pp in range(2) for tp in range(4)] == list(range(8))


def test_the_mapping_has_only_keys_that_every_release_knows() -> None:
    assert Parallelism(4, 2).mapping() == {
        "world_size": 8,
        "gpus_per_node": 8,
        "cp_size": 1,
        "tp_size": 4,
        "pp_size": 2,
        "moe_tp_size": 4,
        "moe_ep_size": 1,
    }


def test_experts_are_shared_in_blocks_of_which_the_fastest_ranks_have_different_ones() -> None:
    """Of 4 tp ranks and moe_ep_size 2, ranks 0 and 2 have the first half of the experts."""
    parallelism = Parallelism(4, 1, moe_ep_size=2)
    assert parallelism.moe_tp_size == 2
    assert [list(parallelism.experts(rank, 6)) for rank in range(4)] == [
        [0, 1, 2],
        [3, 4, 5],
        [0, 1, 2],
        [3, 4, 5],
    ]
    assert Parallelism(4, moe_tp_size=2) == parallelism


def test_context_parallel_ranks_share_files() -> None:
    parallelism = Parallelism(2, 2, 4)
    assert (parallelism.world_size, parallelism.num_files) == (16, 4)
    assert parallelism.mapping()["world_size"] == 16
