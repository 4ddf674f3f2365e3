"""Plans and conversions of tiny checkpoints, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from pipeline.checkpoint.huggingface import open_source_checkpoint
from pipeline.families import Family, find_family
from pipeline.progress import Silent
from pipeline.weights.layout import ConversionPlan, plan_conversion
from pipeline.weights.parallel import Parallelism
from pipeline.weights.stream import write_checkpoint
from tests.weights import oracle


def plan(
    source_dir: Path,
    tp_size: int = 1,
    pp_size: int = 1,
    dtype: str = "bfloat16",
    family: Family | None = None,
) -> ConversionPlan:
    """The conversion plan of a source folder."""
    source = open_source_checkpoint(source_dir)
    family = family or find_family(source.architecture)
    return plan_conversion(source, family, Parallelism(tp_size, pp_size), dtype)


def convert(made: ConversionPlan, source_dir: Path, out_dir: Path, **options: Any) -> Path:
    """Carry out a plan into a new folder."""
    out_dir.mkdir(parents=True)
    write_checkpoint(made, source_dir, out_dir, Silent(), **options)
    return out_dir


def read_ranks(folder: Path) -> list[dict[str, np.ndarray[Any, Any]]]:
    """All tensors of all rank files, read by the safetensors library."""
    count = len(list(folder.glob("rank*.safetensors")))
    return [load_file(folder / f"rank{number}.safetensors") for number in range(count)]


def load_all(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All tensors of a source folder."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        arrays |= load_file(path)
    return arrays


def assert_as_oracle(
    folder: Path,
    arrays: Mapping[str, np.ndarray[Any, Any]],
    config: Mapping[str, Any],
    tp_size: int,
    pp_size: int,
    dtype: str,
) -> None:
    """The rank files hold what the oracle makes: names, shapes, dtypes, and every bit."""
    expected = oracle.convert(arrays, config, tp_size, pp_size, dtype)
    found = read_ranks(folder)
    assert len(found) == len(expected) == tp_size * pp_size
    for number, (rank, wanted) in enumerate(zip(found, expected, strict=True)):
        assert rank.keys() == wanted.keys()
        for name, array in rank.items():
            assert array.dtype == wanted[name].dtype, name
            assert array.shape == wanted[name].shape, name
            assert array.tobytes() == wanted[name].tobytes(), f"{name} of rank {number}"
