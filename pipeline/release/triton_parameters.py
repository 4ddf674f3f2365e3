"""Parameters of the model `tensorrt_llm` in a Triton model repository, as the backend reads them.

Source: TensorRT-LLM, read at 1.3.0rc3 (soon after 1.2),
`triton_backend/inflight_batcher_llm/src/model_instance_state.cc`. A parameter that is left out has
the backend's default, but for the three of `NEVER_LEFT_OUT`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.release.triton_engine import ServedEngine

if TYPE_CHECKING:
    from pipeline.recipe.schema import Serving

ENGINE_PATH, TOKENIZER_PATH = "engine", "tokenizer"
"""Relative to the release folder. The backend opens `gpt_model_path` as it stands, so relative to
the folder in which `tritonserver` was started."""

NEVER_LEFT_OUT = ("tokenizer_dir", "guided_decoding_backend", "xgrammar_tokenizer_info_path")
"""The backend does not load a model without them; empty, they turn guided decoding off."""

DECODING_MODES = {"medusa": "medusa", "explicit_draft_tokens": "redrafter", "eagle": "eagle"}
"""Speculative decoding of the engine -> `decoding_mode` of the backend."""


def llm_parameters(engine: ServedEngine, serving: Serving) -> dict[str, str]:
    """Parameters of the model `tensorrt_llm`, as the texts that the backend reads."""
    found = {
        "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
        "batch_scheduler_policy": "guaranteed_no_evict",
        "decoding_mode": _decoding_mode(engine),
        "enable_chunked_context": _spelt(serving.chunked_context),
        "enable_kv_cache_reuse": _spelt(reuses_kv_cache(engine, serving)),
        "exclude_input_in_output": "true",
        "executor_worker_path": "/opt/tritonserver/backends/tensorrtllm/trtllmExecutorWorker",
        "gpt_model_path": ENGINE_PATH,
        "gpt_model_type": "inflight_fused_batching",
        "kv_cache_free_gpu_mem_fraction": repr(serving.kv_cache_fraction),
        "max_beam_width": str(engine.max_beam_width),
        "normalize_log_probs": "true",
        **dict.fromkeys(NEVER_LEFT_OUT, ""),
    }
    if engine.lora:
        found["lora_cache_max_adapter_size"] = str(engine.max_lora_rank)
    return found


def reuses_kv_cache(engine: ServedEngine, serving: Serving) -> bool:
    """What the recipe says, else whether the engine can. The backend's own default is true."""
    asked = serving.kv_cache_reuse
    return engine.paged_context_fmha if asked is None else asked


def _decoding_mode(engine: ServedEngine) -> str:
    plain = "top_k_top_p" if engine.max_beam_width == 1 else "beam_search"
    return DECODING_MODES.get(engine.draft_mode or "", plain)


def _spelt(value: bool) -> str:
    return "true" if value else "false"
