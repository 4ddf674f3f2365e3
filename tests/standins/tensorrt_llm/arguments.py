"""`SamplingParams` and `KvCacheConfig`: names and types of the facts, rules of the real classes."""

from __future__ import annotations

from typing import Any

from tests.standins.tensorrt_llm.checks import check


class KvCacheConfig:
    """Source of the rules: TensorRT-LLM 1.2, llmapi/llm_args.py."""

    def __init__(self, **given: Any) -> None:
        self.values = check("kv_cache_config", "KvCacheConfig", given)
        if not 0 <= self.values["free_gpu_memory_fraction"] <= 1:
            raise ValueError(
                "kv_cache_config.free_gpu_memory_fraction must be a float between 0 and 1"
            )


class SamplingParams:
    """Source of the rules: TensorRT-LLM 1.2, sampling_params.py."""

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.values = values = check("sampling_params", "SamplingParams", given)
        top_p, top_k, temperature = (values[name] for name in ("top_p", "top_k", "temperature"))
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"require 0 <= top_p <= 1, got top_p={top_p}")
        if top_k is not None and top_k < 0:
            raise ValueError(f"require top_k >= 0, got top_k={top_k}")
        if temperature is not None and temperature < 0:
            raise ValueError(f"require temperature >= 0, got temperature={temperature}")
        if values["max_tokens"] < 1:
            raise ValueError("`max_tokens` must be greater than 0")
        if values["pad_id"] is None:
            values["pad_id"] = values["end_id"]

    @property
    def is_greedy(self) -> bool:
        """`SamplingParams.params_imply_greedy_decoding`."""
        values = [self.values[name] for name in ("temperature", "top_p", "top_k")]
        return values == [None] * 3 or values[2] == 1 or values[0] == 0
