"""Rules between options of a build: what contradicts, and what TensorRT-LLM then does."""

from __future__ import annotations

from pipeline.trtllm.rules import Rule

_BUILD = "TensorRT-LLM `commands/build.py`"
_BUILDER = "TensorRT-LLM `builder.py`"
_COMMON = "TensorRT-LLM `_common.py`, check_max_num_tokens"
_LLAMA = "TensorRT-LLM `models/llama/model.py`"
_RUN_TIME = (
    "TensorRT-LLM `modelConfig.h`, supportsInflightBatching; `trtGptModelInflightBatching.cpp`"
)

OPTION_RULES = (
    Rule(
        name="streamingllm-gone",
        effect="refused",
        when="streamingllm",
        keys=("engine.streamingllm",),
        says="`engine.streamingllm` is true, but attention sinks do not work with the kernels of "
        "this line",
        fix="remove `streamingllm`",
        source=_BUILD,
        sure="1.2",
    ),
    Rule(
        name="paged-context-without-context-fmha",
        effect="changed",
        when="use_paged_context_fmha and not context_fmha",
        keys=("engine.use_paged_context_fmha", "engine.attention.context_fmha"),
        says="`engine.use_paged_context_fmha` is true, but `engine.attention.context_fmha` is "
        "false: TensorRT-LLM turns both off",
        fix="add `use_paged_context_fmha: false`, or leave `context_fmha` on",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="fp8-context-without-context-fmha",
        effect="changed",
        when="use_fp8_context_fmha and not context_fmha",
        keys=("engine.use_fp8_context_fmha", "engine.attention.context_fmha"),
        says="`engine.use_fp8_context_fmha` is true, but `engine.attention.context_fmha` is false: "
        "TensorRT-LLM turns both off",
        fix="remove `use_fp8_context_fmha`, or leave `context_fmha` on",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="fp32-acc-turns-context-fmha-on",
        effect="changed",
        when="bert_context_fmha_fp32_acc and not context_fmha",
        keys=("engine.bert_context_fmha_fp32_acc", "engine.attention.context_fmha"),
        says="`engine.bert_context_fmha_fp32_acc` is true, which turns fused attention on, but "
        "`engine.attention.context_fmha` is false",
        fix="remove `bert_context_fmha_fp32_acc`: it is for encoders",
        source="TensorRT-LLM `plugin/plugin.py`, context_fmha_type",
        sure="1.3rc3",
    ),
    Rule(
        name="continuous-cache-not-runnable",
        effect="refused",
        when="kv_cache_type == 'continuous'",
        keys=("engine.kv_cache_type",),
        says="`engine.kv_cache_type` is `continuous`, but the run time batches in flight, for "
        "which it requires a paged cache",
        fix="remove `kv_cache_type`, for `paged`",
        source=_RUN_TIME,
        sure="1.3rc3",
    ),
    Rule(
        name="padded-input-not-runnable",
        effect="refused",
        when="not remove_input_padding",
        keys=("engine.remove_input_padding",),
        says="`engine.remove_input_padding` is false, but the run time batches in flight, for "
        "which it requires packed input",
        fix="remove `remove_input_padding: false`",
        source=_RUN_TIME,
        sure="1.3rc3",
    ),
    Rule(
        name="profiles-with-opt-tokens",
        effect="refused",
        when="multiple_profiles and opt_num_tokens != None",
        keys=("engine.opt_num_tokens", "engine.multiple_profiles"),
        says="`engine.multiple_profiles` is true, but `engine.opt_num_tokens` is {opt_num_tokens}: "
        "several profiles choose their own",
        fix="remove `opt_num_tokens` or `multiple_profiles`",
        source=_BUILD,
        sure="1.2",
    ),
    Rule(
        name="user-buffer-without-reduce-fusion",
        effect="changed",
        when="user_buffer and not reduce_fusion",
        keys=("engine.user_buffer", "engine.reduce_fusion"),
        says="`engine.user_buffer` is true, but `engine.reduce_fusion` is false: TensorRT-LLM "
        "turns both off",
        fix="remove `user_buffer`, or, for an FP8 or NVFP4 checkpoint, add `reduce_fusion: true`",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="user-buffer-with-pp-reduce-scatter",
        effect="refused",
        when="user_buffer and reduce_fusion and pp_reduce_scatter",
        keys=("engine.pp_reduce_scatter", "engine.user_buffer"),
        says="`engine.user_buffer` and `engine.pp_reduce_scatter` are true, which the model "
        "classes do not combine",
        fix="remove one of them",
        source=_LLAMA,
        sure="1.3rc3",
    ),
    Rule(
        name="two-norm-fusions",
        effect="changed",
        when="norm_quant_fusion and reduce_fusion",
        keys=("engine.norm_quant_fusion", "engine.reduce_fusion"),
        says="`engine.norm_quant_fusion` and `engine.reduce_fusion` are true: TensorRT-LLM keeps "
        "the second alone",
        fix="remove one of them",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="gemm-swiglu-without-fused-mlp",
        effect="refused",
        when="(gemm_swiglu_plugin != None or low_latency_gemm_swiglu_plugin != None)"
        " and not use_fused_mlp",
        keys=(
            "engine.use_fused_mlp",
            "engine.gemm_swiglu_plugin",
            "engine.low_latency_gemm_swiglu_plugin",
        ),
        says="`engine.use_fused_mlp` is false, but a plugin for matrix product and SwiGLU is on, "
        "which needs it",
        fix="remove the plugin, or, for an FP8 checkpoint, `use_fused_mlp: false`",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="int32-plugin",
        effect="refused",
        when="'int32' in (gpt_attention_plugin, bert_attention_plugin, gemm_plugin,"
        " fp8_rowwise_gemm_plugin, nccl_plugin, lora_plugin, moe_plugin, mamba_conv1d_plugin)",
        keys=(
            "engine.gpt_attention_plugin",
            "engine.bert_attention_plugin",
            "engine.gemm_plugin",
            "engine.fp8_rowwise_gemm_plugin",
            "engine.nccl_plugin",
            "engine.lora_plugin",
            "engine.moe_plugin",
            "engine.mamba_conv1d_plugin",
        ),
        says="a plugin is set to `int32`, which the command line accepts, but in which no model "
        "computes",
        fix="write `auto`, the checkpoint's dtype, or null to turn the plugin off",
        source="TensorRT-LLM `plugin/plugin.py`, DefaultPluginDtype",
        sure="inferred",
    ),
    Rule(
        name="fp4-output-without-context-fmha",
        effect="refused",
        when="fuse_fp4_quant and not context_fmha",
        keys=("engine.fuse_fp4_quant", "engine.attention.context_fmha"),
        says="`engine.fuse_fp4_quant` is true, but `engine.attention.context_fmha` is false: only "
        "fused attention writes FP4",
        fix="remove `fuse_fp4_quant`, or leave `context_fmha` on",
        source="TensorRT-LLM `attentionOp.cpp`, AttentionOp::initialize",
        sure="1.3rc3",
    ),
    Rule(
        name="context-logits-with-draft",
        effect="refused",
        when="gather_context_logits and max_draft_len > 0",
        keys=("engine.gather_context_logits", "engine.max_draft_len"),
        says="`engine.gather_context_logits` is true, but `engine.max_draft_len` is "
        "{max_draft_len}: prompt logits and draft tokens exclude each other",
        fix="remove `gather_context_logits`; logits of accepted tokens are asked for at run time",
        source=_BUILD,
        sure="1.2",
    ),
    Rule(
        name="num-tokens-of-padded-input",
        effect="changed",
        when="not remove_input_padding and max_num_tokens != max_batch_size * max_seq_len",
        keys=("engine.max_num_tokens", "engine.remove_input_padding"),
        says="`engine.max_num_tokens` is {max_num_tokens}, but without packed input TensorRT-LLM "
        "sets it to `max_batch_size * max_seq_len`",
        fix="remove `max_num_tokens`",
        source=_COMMON,
        sure="1.2",
    ),
)
