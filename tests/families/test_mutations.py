"""Every tensor of every architecture counts: taken away, doubled, turned or exchanged, it shows."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from pipeline.checkpoint.huggingface import SourceCheckpoint
from pipeline.checkpoint.safetensors_file import TensorInfo, read_header
from pipeline.errors import PipelineError, VerificationError
from pipeline.families import find_family
from pipeline.progress import Silent
from pipeline.weights.layout import ConversionPlan, plan_conversion
from pipeline.weights.parallel import Parallelism
from pipeline.weights.roundtrip import compare
from tests.families.fixtures import FIXTURES, NAMES, open_fixture
from tests.weights.converting import convert, plan


def replan(source: SourceCheckpoint, tensors: dict[str, TensorInfo]) -> ConversionPlan:
    changed = dataclasses.replace(source, tensors=tensors)
    family = find_family(source.architecture)
    return plan_conversion(changed, family, Parallelism(), "bfloat16")


def droppable(source: SourceCheckpoint) -> set[str]:
    """What no rule uses: buffers, and heads that are tied."""
    made = replan(source, dict(source.tensors))
    return set(made.coverage.dropped)


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_that_is_missing(name: str) -> None:
    source = open_fixture(name)
    for missing in source.tensors.keys() - droppable(source):
        tensors = {key: info for key, info in source.tensors.items() if key != missing}
        with pytest.raises(PipelineError) as caught:
            replan(source, tensors)
        assert missing in "\n".join([caught.value.message, *caught.value.facts])


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_that_is_too_much(name: str) -> None:
    """Under another name, in a layer beyond the last, with a suffix: never passed over."""
    source = open_fixture(name)
    last = str(source.config.get("num_hidden_layers", 9) + 90)
    for key, info in source.tensors.items():
        beyond = ".".join(last if word.isdigit() else word for word in key.split("."))
        for other in {f"{key}_2", f"x.{key}", beyond} - {key}:
            if key in droppable(source) and other == beyond:
                continue
            with pytest.raises(PipelineError) as caught:
                replan(source, {**source.tensors, other: dataclasses.replace(info, name=other)})
            assert other in "\n".join([caught.value.message, *caught.value.facts])


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_that_is_turned(name: str) -> None:
    source = open_fixture(name)
    for key in source.tensors.keys() - droppable(source):
        info = source.tensors[key]
        turned = dataclasses.replace(info, shape=tuple(reversed(info.shape)))
        if turned != info:
            with pytest.raises(PipelineError) as caught:
                replan(source, {**source.tensors, key: turned})
            assert key in "\n".join([caught.value.message, *caught.value.facts])


@pytest.mark.parametrize("name", NAMES)
def test_any_wrong_value_of_a_rank_file_is_found(name: str, tmp_path: Path) -> None:
    """One bit of each tensor of one rank file, and two tensors of equal shape exchanged."""
    made = plan(FIXTURES / name, 2, 1, "bfloat16")
    out = convert(made, FIXTURES / name, tmp_path / "out")
    rng = random.Random(name)
    path = out / f"rank{rng.randrange(2)}.safetensors"
    good = path.read_bytes()
    header = read_header(path)
    for info in header.values():
        broken = bytearray(good)
        broken[info.offset + rng.randrange(info.num_bytes)] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(VerificationError) as caught:
            compare(made, FIXTURES / name, out, Silent())
        assert info.name in "\n".join(caught.value.facts)
    for one, other in _alike(list(header.values()), rng):
        broken = bytearray(good)
        parts = [good[info.offset : info.offset + info.num_bytes] for info in (one, other)]
        if parts[0] == parts[1]:
            continue
        broken[one.offset : one.offset + one.num_bytes] = parts[1]
        broken[other.offset : other.offset + other.num_bytes] = parts[0]
        path.write_bytes(broken)
        with pytest.raises(VerificationError):
            compare(made, FIXTURES / name, out, Silent())
    path.write_bytes(good)
    compare(made, FIXTURES / name, out, Silent())


def _alike(infos: list[TensorInfo], rng: random.Random) -> list[tuple[TensorInfo, TensorInfo]]:
    pairs = [
        (one, other)
        for place, one in enumerate(infos)
        for other in infos[place + 1 :]
        if (one.shape, one.dtype) == (other.shape, other.dtype)
    ]
    return rng.sample(pairs, min(3, len(pairs)))
