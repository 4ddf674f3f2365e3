"""What TensorRT's parser made of the decoder graph: it must be all of it, attention as asked.

Runs in the builder's child process, with the module of the installed TensorRT at hand. What the
graph says is `tensorrt_graph.expected_network`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.engines.tensorrt.attention import INPUT_SUFFIX, attention_layers, inventory
from pipeline.errors import ToolFailed

ATTENTION_INPUT = "ATTENTION_INPUT"
"""An `IAttention` is two layers in a network: its input boundary and its output boundary."""

Named = Mapping[str, Any]


def check_network(trt: Any, network: Any, job: Mapping[str, Any]) -> dict[str, Any]:
    """Check the parsed network against the graph; its inventory: layers by kind, dtypes, attention.

    Raises ToolFailed where an input, an output, a weight or an attribute was dropped (the parser
    drops what it does not know in silence), where attention sites are missing, or where one does
    not take `decomposable`.
    """
    expected = job["network"]
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    named = {layer.name: layer for layer in layers}
    kinds = Counter(layer.type.name for layer in layers)
    sites, wanted = kinds[ATTENTION_INPUT], len(expected["attention"])
    faults = [*_dropped_inputs(network, layers, expected["inputs"])]
    faults += _changed_outputs(network, expected["outputs"])
    faults += _dropped_weights(trt, named, expected["weights"])
    faults += _changed_rotary(trt, named, expected["rotary"])
    faults += _dropped_updates(trt, named, expected["cache_updates"])
    if sites != wanted:
        faults.append(f"the graph has {wanted} attention sites, the network {sites}")
    attention = attention_layers(trt, layers)
    faults += _changed_attention(attention, expected["attention"])
    faults += _set_decomposable(attention, decomposable=job["decomposable"])
    if faults:
        raise ToolFailed("TensorRT's ONNX parser did not take the whole graph", facts=faults)
    return {
        "attention_layers": sites,
        "attention": inventory(attention.values()),
        "layers_by_kind": dict(sorted(kinds.items())),
        "dtypes": _dtypes(layers),
        "weights": len(expected["weights"]),
    }


def _dropped_inputs(network: Any, layers: Sequence[Any], wanted: Named) -> Iterator[str]:
    """Inputs of the graph that the network lacks or has otherwise, or that no layer reads."""
    there = {tensor.name: tensor for tensor in _tensors(network.get_input, network.num_inputs)}
    read = {
        tensor.name for layer in layers for tensor in _tensors(layer.get_input, layer.num_inputs)
    }
    for name, port in wanted.items():
        if name not in there or name not in read:
            yield f"input `{name}` was dropped"
        elif _port(there[name]) != port:
            yield f"input `{name}` became {_port(there[name])}, not {port}"


def _changed_outputs(network: Any, wanted: Named) -> Iterator[str]:
    there = {tensor.name: tensor for tensor in _tensors(network.get_output, network.num_outputs)}
    for name, (dtype, dims) in wanted.items():
        if name not in there:
            yield f"output `{name}` was dropped"
            continue
        found = _port(there[name])
        # A dim that the graph declares may be dynamic where TensorRT does not work it out.
        fits = len(found[1]) == len(dims) and all(
            -1 in (mine, given) or mine == given for mine, given in zip(found[1], dims, strict=True)
        )
        if found[0] != dtype or not fits:
            yield f"output `{name}` became {found}, not {[dtype, dims]}"


def _dropped_weights(trt: Any, named: Named, wanted: Named) -> Iterator[str]:
    """Each weight of the graph is a constant of the network, under its name and as it is stored."""
    for name, (dtype, dims) in wanted.items():
        layer = named.get(name)
        if layer is None or layer.type != trt.LayerType.CONSTANT:
            yield f"weight `{name}` was dropped"
        elif (found := _port(layer.get_output(0))) != [dtype, dims]:
            yield f"weight `{name}` became {found}, not {[dtype, dims]}"


def _changed_rotary(trt: Any, named: Named, wanted: Named) -> Iterator[str]:
    for name, attributes in wanted.items():
        layer = named.get(name)
        if layer is None or layer.type != trt.LayerType.ROTARY_EMBEDDING:
            yield f"rotary positions `{name}` were dropped"
            continue
        layer.__class__ = trt.IRotaryEmbeddingLayer
        for attribute, value in attributes.items():
            if getattr(layer, attribute) != value:
                yield f"`{attribute}` of `{name}` became {getattr(layer, attribute)}, not {value}"


def _dropped_updates(trt: Any, named: Named, wanted: Sequence[str]) -> Iterator[str]:
    for name in wanted:
        if name not in named or named[name].type != trt.LayerType.KV_CACHE_UPDATE:
            yield f"cache update `{name}` was dropped"


def _changed_attention(attention: Named, wanted: Named) -> Iterator[str]:
    """Attention of the graph that is none of the network, or lost its mask or causality."""
    for site, says in wanted.items():
        layer = attention.get(site)
        if layer is None:
            yield f"attention `{site}` was dropped"
        elif {"causal": layer.causal, "mask": layer.mask is not None} != says:
            yield f"attention `{site}` lost its mask or its causality"


def _set_decomposable(attention: Named, *, decomposable: bool) -> Iterator[str]:
    """Set it on every attention layer, and read it back: False makes the builder the proof."""
    for site, layer in attention.items():
        layer.decomposable = decomposable
        if layer.decomposable is not decomposable:
            yield f"`{site}{INPUT_SUFFIX}` does not take `decomposable: {decomposable}`"


def _tensors(get: Any, count: int) -> list[Any]:
    """The tensors of a layer or a network; optional ones may be missing."""
    return [tensor for number in range(count) if (tensor := get(number)) is not None]


def _port(tensor: Any) -> list[Any]:
    return [tensor.dtype.name, list(tensor.shape)]


def _dtypes(layers: Sequence[Any]) -> dict[str, int]:
    """Layer outputs by dtype."""
    outputs = (t for layer in layers for t in _tensors(layer.get_output, layer.num_outputs))
    return dict(sorted(Counter(tensor.dtype.name for tensor in outputs).items()))
