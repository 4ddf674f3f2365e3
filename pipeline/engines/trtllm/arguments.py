"""What TensorRT-LLM's `LLM` is given for a smoke test: every name is one of the facts.

The engine says its own sizes, so that nothing is left to the defaults of `LLM`. Results must
repeat: greedy decoding, kernels that do not depend on timing, no KV cache of earlier prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.engines.generator import GenerationRequest

FREE_FRACTION = 0.5
"""Part of the GPU memory that is free after loading for the KV cache: prompts of a smoke test are
few, and another process may use the GPU."""

DETERMINISTIC = {
    "FORCE_DETERMINISTIC": "1",
    "FORCE_ATTENTION_KERNEL_DETERMINISTIC": "1",
    "FORCE_MOE_KERNEL_DETERMINISTIC": "1",
    "FORCE_ALL_REDUCE_DETERMINISTIC": "1",
}
"""Environment of the worker. Source: TensorRT-LLM 1.2, cpp/tensorrt_llm/common/envUtils.cpp."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine's own config.json says about running it."""

    version: str
    tp_size: int
    pp_size: int
    cp_size: int
    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    max_num_tokens: int
    gathers_context_logits: bool

    @property
    def world_size(self) -> int:
        """Ranks, one GPU each."""
        return self.tp_size * self.pp_size * self.cp_size


def engine_facts(config: Mapping[str, Json]) -> EngineFacts:
    """From config.json of an engine (TensorRT-LLM 1.2, `builder.py`, EngineConfig).

    Raises KeyError, TypeError or ValueError where it is not one.
    """
    mapping, build = config["pretrained_config"]["mapping"], config["build_config"]
    return EngineFacts(
        version=str(config["version"]),
        tp_size=int(mapping.get("tp_size", 1)),
        pp_size=int(mapping.get("pp_size", 1)),
        cp_size=int(mapping.get("cp_size", 1)),
        max_batch_size=int(build["max_batch_size"]),
        max_input_len=int(build["max_input_len"]),
        max_seq_len=int(build["max_seq_len"]),
        max_num_tokens=int(build["max_num_tokens"]),
        gathers_context_logits=bool(build["gather_context_logits"]),
    )


def llm_arguments(engine_dir: str, facts: EngineFacts) -> dict[str, Json]:
    """Of `LLM`, but for `kv_cache_config`, which is an object (see `kv_cache_arguments`).

    Sizes of the mapping must be the engine's or 1: a wrong one is a ValueError there. Limits are
    given because `LLM` else fills them from a BuildConfig's defaults (max_num_tokens 8192), not
    from the engine's.
    """
    return {
        "model": engine_dir,
        "skip_tokenizer_init": True,
        "tensor_parallel_size": facts.tp_size,
        "pipeline_parallel_size": facts.pp_size,
        "context_parallel_size": facts.cp_size,
        "max_batch_size": facts.max_batch_size,
        "max_num_tokens": facts.max_num_tokens,
        "max_seq_len": facts.max_seq_len,
    }


def kv_cache_arguments() -> dict[str, Json]:
    """Of `KvCacheConfig`; its `dtype` stays `auto`, which is all that engines take."""
    return {
        "free_gpu_memory_fraction": FREE_FRACTION,
        "enable_block_reuse": False,
        "enable_partial_reuse": False,
    }


def sampling_arguments(request: GenerationRequest, facts: EngineFacts) -> dict[str, Json]:
    """Of `SamplingParams`. End tokens beyond the first are stop tokens, kept in the output.

    With no tokenizer, `end_id` must be given; `ignore_eos` says that there is none.
    """
    sampling = request.sampling
    room = facts.max_seq_len - len(request.token_ids)
    ends = sorted(sampling.stop_token_ids)
    greedy = sampling.temperature == 0
    arguments: dict[str, Json] = {
        "max_tokens": min(sampling.max_new_tokens, room),
        "end_id": ends[0] if ends else 0,
        "pad_id": ends[0] if ends else 0,
        "ignore_eos": not ends,
        "stop_token_ids": ends[1:] or None,
        "include_stop_str_in_output": True,
        "detokenize": False,
        "seed": sampling.seed,
        "top_k": 1 if greedy else 0,
        "temperature": 1.0 if greedy else sampling.temperature,
        "top_p": None if greedy else sampling.top_p,
    }
    if request.wants_logits and facts.gathers_context_logits:
        arguments["return_context_logits"] = True
    return arguments
