"""What TensorRT-LLM 1.2 changes of what it was asked, saying at most a line in the log.

Source: TensorRT-LLM 1.x `builder.py` (`build`, `_init_max_seq_len`, `update_kv_cache_type`),
`_common.py` (`check_max_num_tokens`). The order is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.artifact import Json
from tests.standins.checkpoint import Refused

Say = Callable[[str, str], None]
"""Level letter and text of a log line."""

Options = dict[str, Json]

FP8_WORKFLOWS = ("FP8", "W4A8_AWQ", "NVFP4")
FUSED_REDUCE = ("LlamaForCausalLM", "Gemma2ForCausalLM", "MedusaForCausalLM")


def apply_changes(config: Json, build: Options, plugin: Options, sm: int, say: Say) -> None:
    """Carry out all of them on the two dicts. Raises Refused where a build would fail."""

    def put(name: str, value: Json) -> None:
        plugin[name] = value
        say("I", f"Set PluginConfig.{name} to {value}.")

    put("dtype", config["dtype"])
    put("paged_kv_cache", build["kv_cache_type"] == "paged")
    if plugin["paged_state"]:
        say("W", "Overriding paged_state to False")
    put("paged_state", False)
    _lengths(build, plugin, say)
    _fusions(config, plugin, put, say)
    _speculative(build, say)
    _context_fmha(config, plugin, sm, put, say)
    _refusals(config, plugin, sm)
    put("nccl_plugin", config["dtype"] if config["mapping"]["world_size"] > 1 else None)


def _lengths(build: Options, plugin: Options, say: Say) -> None:
    if build["max_input_len"] > build["max_seq_len"]:
        say("W", f"max_input_len is {build['max_input_len']} is larger than max_seq_len")
        build["max_input_len"] = build["max_seq_len"]
    most = build["max_batch_size"] * build["max_seq_len"]
    if not plugin["remove_input_padding"]:
        say("W", "remove_input_padding is not enabled, the specified max_num_tokens/opt_num_tokens")
        build["max_num_tokens"] = most
        return
    if build["opt_num_tokens"] is None and not plugin["multiple_profiles"]:
        wanted = build["max_batch_size"] * build["max_beam_width"]
        build["opt_num_tokens"] = min(wanted, build["max_num_tokens"])
    if build["max_num_tokens"] > most:
        say("W", f"max_num_tokens ({build['max_num_tokens']}) shouldn't be greater than")
        build["max_num_tokens"] = most
    if build["max_num_tokens"] < build["max_input_len"] and not plugin["context_fmha"]:
        build["max_num_tokens"] = build["max_input_len"]
    elif build["max_num_tokens"] < plugin["tokens_per_block"] and plugin["context_fmha"]:
        build["max_num_tokens"] = plugin["tokens_per_block"]
    if build["opt_num_tokens"] is not None and build["opt_num_tokens"] > build["max_num_tokens"]:
        build["opt_num_tokens"] = build["max_num_tokens"]
    if plugin["context_fmha"]:
        say("W", "padding removal and fMHA are both enabled, max_input_len is not required")


def _fusions(config: Json, plugin: Options, put: Callable[[str, Any], None], say: Say) -> None:
    architecture = config["architecture"]
    algo = config["quantization"]["quant_algo"]
    one = config["mapping"]["tp_size"] == 1
    forced = {
        "reduce_fusion": one or architecture not in FUSED_REDUCE,
        "user_buffer": not plugin["reduce_fusion"] or one or architecture not in FUSED_REDUCE,
        "norm_quant_fusion": plugin["reduce_fusion"]
        or architecture != "LlamaForCausalLM"
        or algo != "NVFP4",
    }
    for name, off in forced.items():
        if plugin[name] and off:
            say("W", f"Overriding {name} to False")
            put(name, False)


def _speculative(build: Options, say: Say) -> None:
    if build["speculative_decoding_mode"] == 1:
        return
    say("I", f"Increasing max_seq_len ({build['max_seq_len']}) by max_draft_len")
    build["max_seq_len"] += build["max_draft_len"]
    least = build["max_batch_size"] * (build["max_draft_len"] + 1)
    build["max_num_tokens"] = max(build["max_num_tokens"], least)


def _context_fmha(
    config: Json, plugin: Options, sm: int, put: Callable[[str, Any], None], say: Say
) -> None:
    algo, cache = (config["quantization"][key] for key in ("quant_algo", "kv_cache_quant_algo"))
    fp8, paged = "use_fp8_context_fmha", "use_paged_context_fmha"
    if not plugin["context_fmha"]:
        put(fp8, False)
        put(paged, False)
        say("W", "Context FMHA is disabled, FP8 Context FMHA and Paged Context FMHA are disabled.")
    elif algo not in FP8_WORKFLOWS or sm < 89:
        if plugin[fp8]:
            put(fp8, False)
            say("W", "FP8 Context FMHA is disabled because it must be used together with the fp8")
        if plugin[paged] and cache == "FP8":
            put(paged, False)
            say("W", "FP8 Paged Context FMHA is disabled because FP8 context FMHA is disabled.")
    elif plugin[paged] and plugin[fp8] != (cache == "FP8"):
        put(fp8, cache == "FP8")
        say("W", "FP8 Paged Context FMHA is disabled or FP8 Context FMHA is enabled")
    if plugin[paged] and cache == "INT8":
        put(paged, False)
        say("W", "Paged Context FMHA is disabled because it doesn't work with int8 kv cache")


def _refusals(config: Json, plugin: Options, sm: int) -> None:
    if plugin["streamingllm"]:
        raise Refused("AssertionError: StreamingLLM is no longer supported")
    if plugin["pp_reduce_scatter"] and config["architecture"] != "MixtralForCausalLM":
        raise Refused("AssertionError: PP reduce scatter is only supported in the mixtral model.")
    swiglu = plugin["gemm_swiglu_plugin"] or plugin["low_latency_gemm_swiglu_plugin"]
    if swiglu and not plugin["use_fused_mlp"]:
        raise Refused("RuntimeError: GemmSwiGLU plugin requires --use_fused_mlp flag")
    not_on_100 = ("gemm_swiglu", "fp8_rowwise_gemm", "low_latency_gemm", "low_latency_gemm_swiglu")
    for name in not_on_100:
        if sm == 100 and plugin[f"{name}_plugin"]:
            raise Refused(f"NotImplementedError: {name}_plugin is not supported on SM 100.")
    if plugin["gpt_attention_plugin"] is None and plugin["paged_kv_cache"]:
        raise Refused("AssertionError: paged_kv_cache without gpt_attention_plugin")
