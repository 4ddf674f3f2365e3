"""What TensorRT-LLM 1.2 requires of a rank file, from its config.json alone.

A second statement beside the weight rules, written from the other side: the parameters of a model
class's module tree. The conversion is checked against it before anything is read, and every
published rank file is, so that nothing is left without a value: the builder would fill it with
random numbers, silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.formulas import evaluate_shape, holds
from pipeline.weights.parallel import Parallelism, parallelism_of
from pipeline.weights.rules import Place, fill

Inventory = dict[str, tuple[str, tuple[int, ...]]]
"""Name -> (dtype, shape)."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of one rank, with its shape there as formulas (see `formulas`).

    They read config.json, and `tp_size`, `moe_tp_size`, `moe_ep_size`, the ranks that share the
    embedding's rows or columns (`embedding_row_ranks`, `embedding_column_ranks`), and `layer`, the
    layer's number in the model. `dtype` None: that of the config. `on` and `when` are as in rules.
    """

    name: str
    shape: tuple[str, ...]
    dtype: str | None = None
    on: Place | None = None
    when: str | None = None


def inventory_facts(config: Mapping[str, Json], parallelism: Parallelism) -> dict[str, Json]:
    """What the formulas of parameters read, `layer` aside."""
    return {
        **config,
        "tp_size": parallelism.tp_size,
        "moe_tp_size": parallelism.moe_tp_size,
        "moe_ep_size": parallelism.moe_ep_size,
        "embedding_row_ranks": parallelism.tp_size if parallelism.embedding_dim == 0 else 1,
        "embedding_column_ranks": parallelism.tp_size if parallelism.embedding_dim == 1 else 1,
    }


def expected_inventory(
    parameters: Sequence[Parameter], config: Mapping[str, Json], file_number: int
) -> Inventory:
    """All that `rank<N>.safetensors` must hold.

    `config` is a target config.json; layers count from 0 in every pp rank. Raises ValueError where
    a size does not divide what it must.
    """
    parallelism = parallelism_of(config)
    pp_rank = file_number // parallelism.tp_size
    held = parallelism.layers(pp_rank, config["num_hidden_layers"])
    places = {"first": pp_rank == 0, "last": pp_rank == parallelism.pp_size - 1}
    sizes = inventory_facts(config, parallelism)
    found: Inventory = {}
    for parameter in parameters:
        is_per_layer = "{layer}" in parameter.name
        if not is_per_layer and parameter.on is not None and not places[parameter.on]:
            continue
        for local, layer in enumerate(held) if is_per_layer else ((None, None),):
            known = sizes if layer is None else {**sizes, "layer": layer}
            if holds(parameter.when, known):
                shape = evaluate_shape(parameter.shape, known)
                found[fill(parameter.name, local)] = (parameter.dtype or config["dtype"], shape)
    return found
