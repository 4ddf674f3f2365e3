"""How a plan tells what TensorRT makes of a decoder's parts, and which options it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.engines.tensorrt import ENGINE
from pipeline.engines.tensorrt import api as tensorrt_api
from pipeline.engines.tensorrt import support as tensorrt_support
from pipeline.engines.tensorrt.job import flags, profile_tokens
from pipeline.errors import MachineError, Problem
from pipeline.graph.config import read_decoder
from pipeline.graph.description import (
    Alibi,
    Attention,
    Decoder,
    Experts,
    LatentAttention,
    Layer,
    Norm,
)
from pipeline.graph.expert_description import Routing
from pipeline.hardware import Gpu, Hardware
from pipeline.recipe.tensorrt_section import TensorRTOptions
from tests.engines.tensorrt_backend.tensorrt_parts import limits
from tests.tiny_decoder import Shape

NOTHING = Hardware(num_cpus=2, available_memory_bytes=1 << 34, gpus=())


def config() -> dict[str, Any]:
    return Shape(dtype="bfloat16", num_heads=4, num_kv_heads=1, head_size=64).config()


def problems(*, fused: bool = True) -> list[Problem]:
    return ENGINE.problems(config(), limits(fused=fused), NOTHING)


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> list[Decoder]:
    """What every config.json is read as: the first of the list."""
    found = [read_decoder(config())]
    monkeypatch.setattr(tensorrt_support, "decoder_of", lambda _: found[0])
    return found


def changed(decoder: Decoder, number: int, **attention: Any) -> Decoder:
    """With other attention in one layer."""
    layers = list(decoder.layers)
    before = layers[number].attention
    assert isinstance(before, Attention)
    layers[number] = replace(layers[number], attention=replace(before, **attention))
    return replace(decoder, layers=tuple(layers))


def notes() -> list[str]:
    return ENGINE.notes(config(), limits())


def test_soft_capping_is_built_of_plain_operators_only_when_that_is_asked_for(
    decoder: list[Decoder],
) -> None:
    decoder[0] = changed(decoder[0], 1, softcap=50.0)
    (problem,) = problems()
    assert "soft-capped attention cannot be said to TensorRT" in problem.message
    assert "context_fmha: false, require_fused: false" in str(problem.hint)
    assert problems(fused=False) == []
    (row,) = ENGINE.attention_support(config(), limits("sm80"))
    assert row["fused"] is False
    (note,) = notes()
    assert note.startswith("soft-capped attention (1 layer): plain operators")
    assert note.endswith("attention is not fused")
    decoder[0] = changed(decoder[0], 2, window=8)
    assert [each.rpartition("; ")[2] for each in notes()][:1] == ["attention is not fused"]
    assert "stays fused" not in " ".join(notes())


def test_alibi_stays_fused_and_the_plan_says_how(decoder: list[Decoder]) -> None:
    decoder[0] = changed(changed(decoder[0], 0, alibi=Alibi()), 1, alibi=Alibi())
    assert problems() == []
    (note,) = notes()
    assert note.startswith("ALiBi (2 layers): a float mask")
    assert note.endswith("attention stays fused")


def test_windows_are_masks_where_a_sequence_can_outgrow_them(decoder: list[Decoder]) -> None:
    decoder[0] = changed(changed(decoder[0], 0, window=32), 1, window=48)  # of 48 tokens
    assert problems() == []
    (note,) = notes()
    assert note.startswith("a sliding window (1 layer): a bool mask")
    assert note.endswith("attention stays fused")


def test_values_of_another_size_count_with_the_size_of_their_keys(decoder: list[Decoder]) -> None:
    rotary = decoder[0].attentions[0].rotary
    assert rotary is not None
    latent = LatentAttention(8, None, 512, 128, 64, 128, 0.07, rotary, Norm("rms", 1e-6))
    decoder[0] = replace(decoder[0], layers=(Layer(latent, None),))
    assert problems() == []
    (row,) = ENGINE.attention_support(config(), limits("sm80"))
    assert (row["fused"], "head size 192" in row["reason"]) == (True, True)
    (note,) = notes()
    assert "padded to the size of the keys" in note
    assert profile_tokens(config(), limits(max_seq_len=24384)) == (24, 1)
    assert profile_tokens(config(), limits(max_seq_len=24385)) == (24, 2)


def test_experts_are_plain_operators(decoder: list[Decoder]) -> None:
    experts = Experts("mlp", Routing(8, 2), 64, "silu")
    layers = [replace(layer, mlp=experts) for layer in decoder[0].layers]
    decoder[0] = replace(decoder[0], layers=tuple(layers))
    (note,) = notes()
    assert note.startswith(f"a mixture of experts ({len(layers)} layers): plain operators")
    assert "IMoELayer" in note
    assert note.endswith("attention stays fused")


def test_one_layer_without_a_kernel_is_enough(decoder: list[Decoder]) -> None:
    decoder[0] = changed(decoder[0], 2, head_size=264)
    (problem,) = problems()
    assert "head size 264" in problem.message


def options(machine: Hardware = NOTHING, **given: bool) -> list[Problem]:
    settings = limits().model_copy(update={"tensorrt": TensorRTOptions(**given)})
    return ENGINE.problems(config(), settings, machine)


def test_an_engine_without_weights_is_built_only_where_a_gpu_is() -> None:
    (problem,) = options(strip_weights=True)
    assert problem.kind is MachineError
    assert "compiled only where a CUDA driver is" in problem.message
    gpu = Hardware(2, 1 << 34, (Gpu("L4", "sm89", 24 << 30, "580"),))
    assert options(gpu, strip_weights=True) == []


def test_version_compatibility_is_for_tensorrt_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = options(version_compatible=True)
    assert "not compatible between its releases" in problem.message
    assert "tensorrt-cu13" in str(problem.hint)

    def version(name: str) -> str:
        if name != "tensorrt-cu13":
            raise tensorrt_api.PackageNotFoundError(name)
        return "11.1.0.1"

    monkeypatch.setattr(tensorrt_api, "version", version)
    ada = Hardware(2, 1 << 34, tuple(Gpu(t, t, 24 << 30, "580") for t in ("sm80", "sm89")))
    assert options(ada, version_compatible=True, strip_weights=True) == []


def test_flags_are_those_of_the_recipe() -> None:
    def named(**given: bool) -> list[str]:
        return flags(limits().model_copy(update={"tensorrt": TensorRTOptions(**given)}))

    assert named() == []
    assert named(strip_weights=True) == ["STRIP_PLAN", "REFIT_IDENTICAL"]
    assert named(version_compatible=True) == ["VERSION_COMPATIBLE"]
