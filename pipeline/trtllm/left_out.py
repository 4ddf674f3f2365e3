"""Options that no recipe has: gone from TensorRT-LLM 1.2, or decided by it or by this project."""

from __future__ import annotations

from collections.abc import Mapping

GONE: Mapping[str, str] = {
    "max_output_len": "it is gone from TensorRT-LLM: `engine.max_seq_len` limits prompt and output "
    "together, `smoke.max_new_tokens` the output of the smoke test",
    "context_fmha_fp32_acc": "it is gone from TensorRT-LLM's build: fused context attention in "
    "float16 accumulates in float32 by the run-time switch `enable_context_fmha_fp32_acc`, in "
    "bfloat16 and FP8 it always does; set `checkpoint.dtype: bfloat16`, or leave it out",
    "use_custom_all_reduce": "it is gone from TensorRT-LLM, which chooses the all-reduce at run "
    "time: leave it out",
    "enable_xqa": "it is gone from TensorRT-LLM: XQA kernels are always on: leave it out",
    "auto_parallel": "it is gone from TensorRT-LLM: set `checkpoint.tp_size` and "
    "`checkpoint.pp_size`",
    "gpus_per_node": "it went with `auto_parallel`, which is gone from TensorRT-LLM: leave it out",
    "cluster_key": "it went with `auto_parallel`, which is gone from TensorRT-LLM: leave it out",
    "multi_block_mode": "it is a run-time option of TensorRT-LLM 1.2, on by default: leave it out",
    "attention_qk_half_accumulation": "it is gone from TensorRT-LLM: leave it out",
    "use_context_fmha_for_generation": "it is gone from TensorRT-LLM: leave it out",
    "lookup_plugin": "it is gone from TensorRT-LLM: leave it out",
    "builder_opt": "it is gone from TensorRT-LLM: leave it out",
}
"""Option of older releases -> what to use instead (TensorRT-LLM release notes 0.11 to 1.0)."""

GONE_SOURCE = (
    "no such option in TensorRT-LLM `commands/build.py` and `plugin/plugin.py`, read in a source "
    "state of the 1.2 line"
)
"""What says so: older releases had each of these there."""

_BY_QUANTIZATION = "TensorRT-LLM sets it from the checkpoint's quantization: leave it out"

DECIDED: Mapping[str, str] = {
    "opt_batch_size": "`trtllm-build` has no flag for it: leave it out",
    "strongly_typed": "`trtllm-build` always builds strongly typed networks: leave it out",
    "force_num_profiles": "it is a debugging aid of TensorRT-LLM: leave it out",
    "use_refit": "`trtllm-build` never sets it: `engine.use_strip_plan` makes an engine that is "
    "refitted",
    "lora_config": "set `engine.lora_plugin`, `engine.lora_target_modules` and "
    "`engine.max_lora_rank`",
    "lora_dir": "adapters are given at run time: set `engine.lora_plugin`, "
    "`engine.lora_target_modules` and `engine.max_lora_rank`",
    "plugin_config": "write its keys in `engine` itself",
    "build_config": "write its keys in `engine` itself; `trtllm-pack migrate FILE` does it",
    "use_mrope": "TensorRT-LLM sets it from the model: leave it out",
    "input_timing_cache": "timing caches are kept in the store: `engine.use_timing_cache`",
    "output_timing_cache": "timing caches are kept in the store: `engine.use_timing_cache`",
    "dry_run": "it makes no engine: `trtllm-pack plan` says what a build would do",
    "visualize_network": "it writes a dump beside the engine, for debugging: leave it out",
    "log_level": "the build log is read at the level `info`: leave it out",
    "output_dir": "the engine goes to the store: `--out DIR` places it in a folder too",
    "model_config": "the engine is built from the converted checkpoint: leave it out",
    "model_cls_file": "code is never executed from a recipe: leave it out",
    "model_cls_name": "code is never executed from a recipe: leave it out",
    "paged_kv_cache": "it is deprecated (TensorRT-LLM `commands/build.py`): set "
    "`engine.kv_cache_type`",
    "gather_all_token_logits": "set `engine.gather_context_logits` and "
    "`engine.gather_generation_logits`",
    "manage_weights": "`engine.fast_build` sets it",
    "smooth_quant_plugins": _BY_QUANTIZATION,
    "smooth_quant_gemm_plugin": _BY_QUANTIZATION,
    "layernorm_quantization_plugin": _BY_QUANTIZATION,
    "rmsnorm_quantization_plugin": _BY_QUANTIZATION,
    "qserve_gemm_plugin": _BY_QUANTIZATION,
    "weight_only_quant_matmul_plugin": _BY_QUANTIZATION,
    "weight_only_groupwise_quant_matmul_plugin": _BY_QUANTIZATION,
    "quantize_per_token_plugin": _BY_QUANTIZATION,
    "quantize_tensor_plugin": _BY_QUANTIZATION,
    "identity_plugin": "it is a debugging aid of TensorRT-LLM: leave it out",
}
"""Option of TensorRT-LLM 1.2 that a recipe cannot set -> why, and what to do."""

ELSEWHERE: Mapping[str, str] = {
    "checkpoint_dir": "source.path",
    "context_fmha": "engine.attention.context_fmha",
    "dtype": "checkpoint.dtype",
}
"""Option that a recipe has under another key than `engine.<name>` -> that key."""
