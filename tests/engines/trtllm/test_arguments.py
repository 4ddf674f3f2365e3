"""What the worker passes to TensorRT-LLM: facts only, and the engine's own sizes."""

from __future__ import annotations

import pytest

from pipeline.engines.generation import Sampling
from pipeline.engines.generator import GenerationRequest
from pipeline.engines.trtllm.arguments import (
    EngineFacts,
    kv_cache_arguments,
    llm_arguments,
    sampling_arguments,
)
from pipeline.trtllm.facts import facts
from tests.standins.tensorrt_llm.checks import check

FACTS = EngineFacts("1.2.1", 2, 1, 1, 2, 24, 40, 64, True)
PROMPTS = ((5, 6, 7, 8), (9, 10, 11))


def requests(*ends: int, num_new: int = 6, logits: bool = False) -> list[GenerationRequest]:
    """Greedy requests for the prompts."""
    sampling = Sampling(num_new, stop_token_ids=frozenset(ends))
    return [GenerationRequest(prompt, sampling, logits) for prompt in PROMPTS]


@pytest.mark.parametrize(
    ("section", "given"),
    [
        ("llm_arguments", llm_arguments("/e", FACTS)),
        ("kv_cache_config", kv_cache_arguments()),
        *(
            ("sampling_params", sampling_arguments(request, FACTS))
            for request in (
                *requests(1, 2, logits=True),
                *requests(),
                GenerationRequest((1,), Sampling(4, 0.7, 0.9, 3, frozenset({1}))),
            )
        ),
    ],
)
def test_all_that_is_passed_is_a_fact(section: str, given: dict[str, object]) -> None:
    assert given.keys() <= facts()[section].keys()
    assert check(section, section, given)
    with pytest.raises(ValueError, match="got invalid argument: max_output_len"):
        check(section, section, {**given, "max_output_len": 1})


def test_sizes_are_the_engines_and_nothing_reuses_the_cache() -> None:
    given = llm_arguments("/e", FACTS)
    assert (given["tensor_parallel_size"], given["max_num_tokens"]) == (2, 64)
    assert given["skip_tokenizer_init"] is True
    cache = kv_cache_arguments()
    assert cache["enable_block_reuse"] is cache["enable_partial_reuse"] is False
    assert 0 < cache["free_gpu_memory_fraction"] < 0.9
    assert "dtype" not in cache


def test_greedy_is_said_in_every_way_and_tokens_stay_within_the_engine() -> None:
    (first, _) = requests(2, 1, num_new=99)
    given = sampling_arguments(first, FACTS)
    assert (given["top_k"], given["top_p"], given["temperature"]) == (1, None, 1.0)
    assert (given["end_id"], given["stop_token_ids"], given["ignore_eos"]) == (1, [2], False)
    assert given["max_tokens"] == 40 - len(PROMPTS[0])
    (without, _) = requests()
    assert sampling_arguments(without, FACTS)["ignore_eos"] is True
