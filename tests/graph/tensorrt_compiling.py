"""What a child process runs to compile a graph part; it imports little, to start fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.engines.tensorrt.api import create_network, find_flavour, load_api, set_targets


def compile_model(
    model: bytes, shapes: Mapping[str, Sequence[Sequence[int]]], targets: Sequence[str]
) -> int:
    """How many attention layers the compiled model has, all of them fused. Raises Refused."""
    flavour = find_flavour()
    assert flavour is not None
    trt = load_api(flavour)
    log = _log(trt)
    builder = trt.Builder(log)
    network, config = create_network(trt, builder), builder.create_builder_config()
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        raise Refused(*log.lines)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    given = [layer.get_input(i) for layer in layers for i in range(layer.num_inputs)]
    read = {tensor.name for tensor in given if tensor is not None}
    assert {network.get_input(i).name for i in range(network.num_inputs)} == set(shapes)
    assert set(shapes) <= read
    sites = [layer for layer in layers if layer.type == trt.LayerType.ATTENTION_INPUT]
    for site in sites:
        site.__class__ = trt.IAttentionInputLayer
        assert site.attention.decomposable is False
    set_targets(trt, flavour, config, targets)
    profile = builder.create_optimization_profile()
    for name, of in shapes.items():
        profile.set_shape(name, *map(tuple, of))
    assert config.add_optimization_profile(profile) == 0
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise Refused(*log.lines)
    assert engine.nbytes > 0
    assert log.lines == []
    return len(sites)


class Refused(Exception):
    """TensorRT's own words."""


def _log(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps warnings and errors, but that ids and positions are int64."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.WARNING and "has Int64 binding" not in message:
                self.lines.append(message)

    return Log()
