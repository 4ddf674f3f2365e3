"""The first layers of a TensorRT-LLM checkpoint, as a checkpoint: a pure view, nothing is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.artifact import Json
from pipeline.checkpoint.trtllm import TrtllmCheckpoint, rank_file
from pipeline.graph.weights import unpipelined
from pipeline.weights.parallel import parallelism_of

PER_LAYER_KEYS = ("attention_windows", "layer_configs")
"""Keys of config.json whose value, a list, has an item for each layer."""

_LAYER = re.compile(r"transformer\.layers\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class LayerPlace:
    """Where a layer of the model lies: its number in these rank files, which share it."""

    local: int
    files: tuple[str, ...]

    def __str__(self) -> str:
        files = ", ".join(f"`{file}`" for file in self.files)
        return f"`transformer.layers.{self.local}` of {files}"


def place_layer(config: Mapping[str, Json], layer: int) -> LayerPlace:
    """Where a checkpoint with this config.json has a layer; numbers start at 0 in each pp rank."""
    parallelism = parallelism_of(config)
    for pp_rank in range(parallelism.pp_size):
        held = parallelism.layers(pp_rank, config["num_hidden_layers"])
        if layer in held:
            numbers = [parallelism.file_number(pp_rank, r) for r in range(parallelism.tp_size)]
            return LayerPlace(held.index(layer), tuple(map(rank_file, numbers)))
    raise AssertionError(layer)


def first_layers(checkpoint: TrtllmCheckpoint, num_layers: int) -> TrtllmCheckpoint:
    """The same checkpoint with only its first layers; what is around the layers is kept.

    `num_layers` is from 1 to the layers that there are. The result is a view of the same rank files
    with one pp rank, for the decoder graph: `ranks[r]` has tensors of all files of tp rank `r`.
    """
    total = checkpoint.config["num_hidden_layers"]
    assert 1 <= num_layers <= total, (num_layers, total)
    if num_layers == total:
        return checkpoint
    ranks = tuple(
        {name: info for name, info in tensors.items() if _layer_of(name) < num_layers}
        for tensors in unpipelined(checkpoint)
    )
    return replace(checkpoint, config=_cut_config(checkpoint.config, num_layers), ranks=ranks)


def _cut_config(config: Mapping[str, Json], num_layers: int) -> dict[str, Json]:
    """The config.json of the first layers, with one pp rank."""
    cut = {key: config[key][:num_layers] for key in PER_LAYER_KEYS if config.get(key) is not None}
    mapping = config["mapping"]
    mapping = {**mapping, "pp_size": 1, "world_size": mapping["world_size"] // mapping["pp_size"]}
    return {**config, **cut, "num_hidden_layers": num_layers, "mapping": mapping}


def _layer_of(name: str) -> int:
    """The layer of a tensor; -1 for one that is of no layer, which comes before them all."""
    found = _LAYER.match(name)
    return int(found[1]) if found else -1
