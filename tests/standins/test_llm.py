"""The stand-in `LLM` refuses what the real one refuses, and what is no fact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.trtllm.arguments import kv_cache_arguments, llm_arguments
from pipeline.engines.trtllm.runnable import read_engine_facts
from tests.engines.trtllm.engines import write_engine
from tests.standins import Standin
from tests.standins.llm import install_llm
from tests.standins.tensorrt_llm.arguments import KvCacheConfig, SamplingParams
from tests.standins.tensorrt_llm.llm import LLM
from tests.tiny_decoder import Shape

GREEDY = {"end_id": 1, "pad_id": 1, "max_tokens": 3, "top_k": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine, and an engine of two ranks."""
    found = tmp_path_factory.mktemp("llm")
    install_llm(Standin(found / "machine"))
    write_engine(found / "engine", replace(Shape(), dtype="bfloat16"), tp_size=2)
    return found


@pytest.fixture
def given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What our own code passes."""
    monkeypatch.setenv("STANDIN_MACHINE", str(folder / "machine"))
    engine = folder / "engine"
    cache = KvCacheConfig(**kv_cache_arguments())
    return {**llm_arguments(str(engine), read_engine_facts(engine)), "kv_cache_config": cache}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_output_len": 3}, "got invalid argument: max_output_len"),
        ({"tensor_parallel_size": 4}, "tp_size 4 is not consistent with the engine's tp_size 2"),
        ({"tensor_parallel_size": "2"}, "tensor_parallel_size='2' is no int"),
        ({"tensor_parallel_size": True}, "tensor_parallel_size=True is no int"),
        ({"tokenizer_mode": "fast"}, "tokenizer_mode='fast'"),
    ],
)
def test_wrong_arguments_of_llm(
    given: dict[str, Any], wrong: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LLM(**{**given, **wrong})


def test_a_cache_of_another_dtype_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="not supported by the TensorRT backend"):
        LLM(**{**given, "kv_cache_config": KvCacheConfig(dtype="fp8")})
    with pytest.raises(ValueError, match="between 0 and 1"):
        KvCacheConfig(free_gpu_memory_fraction=1.5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_new_tokens": 3}, "got invalid argument: max_new_tokens"),
        ({"top_p": 1.5}, "require 0 <= top_p <= 1"),
        ({"top_k": -1}, "require top_k >= 0"),
        ({"temperature": -0.5}, "require temperature >= 0"),
        ({"max_tokens": 0}, "must be greater than 0"),
        ({"stop_token_ids": [1.5]}, "is no list"),
    ],
)
def test_wrong_sampling_params(wrong: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingParams(**{**GREEDY, **wrong})


def test_requests_must_fit_the_engine(given: dict[str, Any]) -> None:
    with LLM(**given) as llm:
        (found,) = llm.generate([[1, 2]], [SamplingParams(**GREEDY)], use_tqdm=False)
        assert 1 <= len(found.outputs[0].token_ids) <= 3
        for wrong in ({"max_tokens": 39}, {"end_id": None}, {"return_context_logits": True}):
            with pytest.raises(ValueError):  # noqa: PT011 - each has its own text
                llm.generate([[1, 2]], [SamplingParams(**{**GREEDY, **wrong})])
    calls = (Path(given["model"]).parent / "machine" / "llm-calls.jsonl").read_text()
    assert json.loads(calls.splitlines()[-1])["call"] == "generate"
