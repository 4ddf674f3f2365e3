"""What TensorRT's parser made of the decoder graph: it must be all of it, attention as asked.

Runs in the builder's child process, with the module of the installed TensorRT at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import ToolFailed

ATTENTION_INPUT = "ATTENTION_INPUT"
"""An `IAttention` is two layers in a network: its input boundary and its output boundary."""


def check_network(trt: Any, network: Any, job: Mapping[str, Any]) -> dict[str, Any]:
    """Check the parsed network against the graph; its inventory: layers by kind, dtypes.

    Raises ToolFailed where an input was dropped (the parser drops what it does not know in
    silence), where attention sites are missing, or where one does not take `decomposable`.
    """
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    kinds = Counter(layer.type.name for layer in layers)
    faults = [*_dropped_inputs(network, layers, job["inputs"])]
    sites, wanted = kinds[ATTENTION_INPUT], job["attention_sites"]
    if sites != wanted:
        faults.append(f"the graph has {wanted} attention sites, the network {sites}")
    faults += _set_decomposable(trt, layers, decomposable=job["decomposable"])
    if faults:
        raise ToolFailed("TensorRT's ONNX parser did not take the whole graph", facts=faults)
    return {
        "attention_layers": sites,
        "layers_by_kind": dict(sorted(kinds.items())),
        "dtypes": _dtypes(layers),
    }


def _dropped_inputs(network: Any, layers: Sequence[Any], names: Sequence[str]) -> list[str]:
    """Inputs of the graph that the network lacks, or that no layer reads."""
    there = {network.get_input(number).name for number in range(network.num_inputs)}
    read = {
        tensor.name
        for layer in layers
        for tensor in (layer.get_input(number) for number in range(layer.num_inputs))
        if tensor is not None
    }
    return [f"input `{name}` was dropped" for name in names if name not in there & read]


def _set_decomposable(trt: Any, layers: Sequence[Any], *, decomposable: bool) -> list[str]:
    """Set it on every attention layer, and read it back: False makes the builder the proof."""
    faults = []
    for layer in layers:
        if layer.type.name == ATTENTION_INPUT:
            # How TensorRT's Python API casts a layer to its own interface.
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = decomposable
            if layer.attention.decomposable is not decomposable:
                faults.append(f"`{layer.name}` does not take `decomposable: {decomposable}`")
    return faults


def _dtypes(layers: Sequence[Any]) -> dict[str, int]:
    """Layer outputs by dtype."""
    outputs = (layer.get_output(n) for layer in layers for n in range(layer.num_outputs))
    return dict(sorted(Counter(tensor.dtype.name for tensor in outputs).items()))


def add_profiles(
    builder: Any,
    network: Any,
    config: Any,
    profiles: Sequence[Mapping[str, Sequence[Sequence[int]]]],
) -> None:
    """Add optimisation profiles: least, best and largest shape of every input, by its name."""
    for number, shapes in enumerate(profiles):
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            name = network.get_input(index).name
            profile.set_shape(name, *(tuple(shape) for shape in shapes[name]))
        if config.add_optimization_profile(profile) != number:
            raise ToolFailed(f"TensorRT refuses optimisation profile {number}")
