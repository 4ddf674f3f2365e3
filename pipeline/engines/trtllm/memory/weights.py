"""Bytes of weights on every pp rank, by a checkpoint's config.json alone.

The tensors are those of `families.expected_inventory`; here only their sizes are worked out, once
for all layers that have the same, so that all layouts of a model take milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from pipeline.artifact import Json
from pipeline.checkpoint.safetensors_file import ITEM_BYTES
from pipeline.families import find_family
from pipeline.formulas import evaluate_shape, holds, names_in
from pipeline.weights.inventory import Parameter, inventory_facts
from pipeline.weights.parallel import parallelism_of

_EMBEDDING, _HEAD = "transformer.vocab_embedding.weight", "lm_head.weight"


def rank_weights(config: Mapping[str, Json]) -> tuple[int, ...]:
    """Bytes of weights that each pp rank has on its GPU; all tp ranks of a pp rank have the same.

    A tied head counts once where embedding and head are on one rank and have one shape: TensorRT
    keeps equal weights once (TensorRT-LLM 1.2, models/modeling_utils.py, share_embedding). With
    several pp ranks the first and the last have a copy each. Raises ValueError where a size does
    not divide what it must.
    """
    parallelism = parallelism_of(config)
    facts = inventory_facts(config, parallelism)
    layers, outside, shapes = [0] * config["num_hidden_layers"], {"first": 0, "last": 0}, {}
    everywhere = 0
    for parameter in find_family(config["architecture"]).model_class.parameters:
        item = ITEM_BYTES[parameter.dtype or config["dtype"]]
        if "{layer}" in parameter.name:
            for layer, values in _values_by_layer(parameter, facts, len(layers)):
                layers[layer] += values * item
        elif holds(parameter.when, facts):
            shape = shapes[parameter.name] = evaluate_shape(parameter.shape, facts)
            if parameter.on is None:
                everywhere += math.prod(shape) * item
            else:
                outside[parameter.on] += math.prod(shape) * item
    ranks = [
        everywhere + sum(layers[layer] for layer in parallelism.layers(pp_rank, len(layers)))
        for pp_rank in range(parallelism.pp_size)
    ]
    ranks[0] += outside["first"]
    ranks[-1] += outside["last"]
    if _is_tied_on_one_rank(config, shapes, parallelism.pp_size):
        ranks[0] -= math.prod(shapes[_HEAD]) * ITEM_BYTES[config["dtype"]]
    return tuple(ranks)


def _values_by_layer(
    parameter: Parameter, facts: dict[str, Json], num_layers: int
) -> Iterator[tuple[int, int]]:
    """Layers that have a parameter, and its number of values there."""
    is_even = not any("layer" in names_in(formula) for formula in parameter.shape)
    is_everywhere = parameter.when is None or "layer" not in names_in(parameter.when)
    if is_everywhere and not holds(parameter.when, facts):
        return
    known: int | None = None
    for layer in range(num_layers):
        here = {**facts, "layer": layer} if not (is_even and is_everywhere) else facts
        if not is_everywhere and not holds(parameter.when, here):
            continue
        if known is None or not is_even:
            known = math.prod(evaluate_shape(parameter.shape, here))
        yield layer, known


def _is_tied_on_one_rank(
    config: Mapping[str, Json], shapes: Mapping[str, Sequence[int]], pp_size: int
) -> bool:
    """Whether the head is the embedding: the same values, by the config, in the same shape."""
    is_tied = pp_size == 1 and config.get("tie_word_embeddings") is True
    return is_tied and _HEAD in shapes and shapes.get(_EMBEDDING) == shapes[_HEAD]


def kv_heads_by_layer(config: Mapping[str, Json]) -> list[int]:
    """K/V heads of the whole model in each layer; 0 where a layer keeps no K/V.

    DeciLM says it layer by layer. Source: TensorRT-LLM 1.2, models/nemotron_nas/model.py.
    """
    usual = config["num_key_value_heads"]
    listed = config.get("layer_configs")
    if not listed:
        return [usual] * int(config["num_hidden_layers"])
    attentions = [layer["attention"] for layer in listed]
    return [
        (attention["num_key_value_heads"] or usual) if attention["impl"] == "attention" else 0
        for attention in attentions
    ]
