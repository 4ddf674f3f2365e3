"""How a network is to be built: targets, optimisation profiles, flags, the builder's progress.

Runs in the builder's child process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.engines.tensorrt.api import Flavour, set_targets
from pipeline.errors import ToolFailed


def builder_config(
    trt: Any, flavour: Flavour, builder: Any, network: Any, monitor: Any, job: Mapping[str, Any]
) -> Any:
    """The configuration of a job. Raises ToolFailed where TensorRT refuses a part of it."""
    config = builder.create_builder_config()
    config.progress_monitor = monitor
    set_targets(trt, flavour, config, job["targets"])
    for flag in job["flags"]:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    add_profiles(builder, network, config, job["profiles"])
    return config


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
