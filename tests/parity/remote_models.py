"""Checkpoints of architectures that come with code of their own: names, shapes and a config.

The configs have the keys of the published `config.json` files, of the model that a comment names.
Weights are random. What the models compute from them, `equivalents` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

Shapes = Mapping[str, tuple[int, ...]]


class Remote(NamedTuple):
    """A checkpoint by its tables.

    Attributes:
        dtype: Data type of the weights.
        config: The published config, with the sizes of the fixture.
        outer: Tensors outside the layers, by name.
        layers: For each layer its tensors, by name; `{n}` stands for the number of the layer.
        buffers: Names whose tensors are stored although they are no weights. Their shapes are in
            the other tables, their values are ascending, and their data type is float32.
        tied: Names of tensors that hold the values of another, stored all the same.
    """

    dtype: str
    config: dict[str, Any]
    outer: Shapes
    layers: tuple[Shapes, ...]
    buffers: tuple[str, ...] = ()
    tied: Mapping[str, str] = MappingProxyType({})


def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    """The same shapes under longer names."""
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def with_biases(weights: Shapes, outputs_last: bool = False) -> Shapes:
    """Every weight with its bias, as long as the output axis: the first, in a Conv1D the last."""
    made: dict[str, tuple[int, ...]] = {}
    for name, shape in weights.items():
        made[f"{name}.weight"] = shape
        made[f"{name}.bias"] = (shape[-1 if outputs_last else 0],)
    return made


def write_remote(folder: Path, remote: Remote) -> None:
    """Write the weights in two files, their index, and config.json."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(20261122)
    shapes = dict(remote.outer)
    for number, layer in enumerate(remote.layers):
        shapes |= {name.format(n=number): shape for name, shape in layer.items()}
    tensors = {name: random_tensor(name, shape, remote) for name, shape in shapes.items()}
    tensors |= {name: tensors[other].clone() for name, other in remote.tied.items()}
    folder.mkdir(parents=True)
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    for file, value in {
        "config.json": remote.config,
        "model.safetensors.index.json": index,
    }.items():
        (folder / file).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def random_tensor(name: str, shape: tuple[int, ...], remote: Remote) -> Any:
    """Values around zero; around one for the scales of norms."""
    import torch

    if name.endswith(remote.buffers):
        count = int(torch.tensor(shape).prod())
        return (torch.arange(1, count + 1) / 8.0).reshape(shape)
    offset = 1.0 if len(shape) == 1 and name.endswith("weight") else 0.0
    values = offset + 0.3 * torch.randn(shape)
    return values.to(getattr(torch, remote.dtype))
