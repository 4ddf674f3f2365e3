"""Rules of attention in FP8: what TensorRT-LLM turns on and off by quantization, cache and GPU."""

from __future__ import annotations

from pipeline.trtllm.attention_kernels import FP8_FMHA_TARGETS
from pipeline.trtllm.attention_rules import FP8_FUSED, PLUGGED
from pipeline.trtllm.plugin_rules import FP8_ALGOS
from pipeline.trtllm.rules import Rule

_OP = "TensorRT-LLM `attentionOp.cpp`, AttentionOp::initialize"
_BUILDER = "TensorRT-LLM `builder.py`"

FP8_RULES = (
    Rule(
        name="fp8-context-without-fp8",
        effect="changed",
        when=f"context_fmha and use_fp8_context_fmha and quant_algo not in {FP8_ALGOS}",
        keys=("engine.use_fp8_context_fmha",),
        says="`engine.use_fp8_context_fmha` is true, but the checkpoint is not quantised for FP8 "
        "arithmetic: TensorRT-LLM turns it off",
        fix="remove `use_fp8_context_fmha`",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="paged-context-of-fp8-cache",
        effect="changed",
        when=f"context_fmha and use_paged_context_fmha and quant_algo not in {FP8_ALGOS}"
        " and kv_cache_quant_algo == 'FP8'",
        keys=("engine.use_paged_context_fmha", "checkpoint.quantization"),
        says="the KV cache is FP8, but the weights are not quantised for FP8 arithmetic: "
        "TensorRT-LLM turns `engine.use_paged_context_fmha` off, and with it the reuse of pages "
        "and chunked context",
        fix="add `use_paged_context_fmha: false`, or quantise the weights as FP8",
        source=_BUILDER,
        sure="1.3rc3",
    ),
    Rule(
        name="fp8-context-before-ada",
        effect="changed",
        when=f"context_fmha and use_fp8_context_fmha and quant_algo in {FP8_ALGOS} and sm < 89",
        keys=("engine.use_fp8_context_fmha", "engine.targets"),
        says="`engine.use_fp8_context_fmha` is true, but {target} has no FP8 arithmetic: "
        "TensorRT-LLM turns it off",
        fix="remove `use_fp8_context_fmha`",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="fp8-paged-context-needs-fp8-cache",
        effect="changed",
        when=f"context_fmha and use_paged_context_fmha and use_fp8_context_fmha"
        f" and quant_algo in {FP8_ALGOS} and kv_cache_quant_algo != 'FP8' and sm >= 89",
        keys=("engine.use_fp8_context_fmha", "engine.use_paged_context_fmha"),
        says="`engine.use_fp8_context_fmha` and `use_paged_context_fmha` are true, but the KV "
        "cache is not FP8: TensorRT-LLM turns the first off",
        fix="remove `use_fp8_context_fmha`, or quantise the KV cache as FP8",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="fp8-cache-needs-fp8-context",
        effect="changed",
        when=f"context_fmha and use_paged_context_fmha and not use_fp8_context_fmha"
        f" and quant_algo in {FP8_ALGOS} and kv_cache_quant_algo == 'FP8' and sm >= 89",
        keys=("engine.use_fp8_context_fmha", "engine.use_paged_context_fmha"),
        says="the weights and the KV cache are FP8: TensorRT-LLM turns "
        "`engine.use_fp8_context_fmha` on",
        fix="add `use_fp8_context_fmha: true`",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="paged-context-of-int8-cache",
        effect="changed",
        when="context_fmha and use_paged_context_fmha and kv_cache_quant_algo == 'INT8'",
        keys=("engine.use_paged_context_fmha", "checkpoint.quantization"),
        says="the KV cache is INT8: TensorRT-LLM turns `engine.use_paged_context_fmha` off",
        fix="add `use_paged_context_fmha: false`",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="fp8-context-float32",
        effect="refused",
        when=f"{FP8_FUSED} and model.dtype == 'float32'",
        keys=("engine.use_fp8_context_fmha", "checkpoint.dtype"),
        says="`engine.use_fp8_context_fmha` is true, but the checkpoint is float32",
        fix="set `checkpoint.dtype` to `bfloat16` or `float16`",
        source=_OP,
        sure="1.2",
    ),
    Rule(
        name="fp8-context-target",
        effect="refused",
        when=f"{FP8_FUSED} and sm >= 89 and sm not in {FP8_FMHA_TARGETS}",
        keys=("engine.use_fp8_context_fmha", "engine.targets"),
        says="`engine.use_fp8_context_fmha` is true, but {target} has no such kernels",
        fix="remove `use_fp8_context_fmha`",
        source=_OP,
        sure="1.2",
    ),
    Rule(
        name="fp4-cache-needs-fp8-context",
        effect="refused",
        when=f"{PLUGGED} and kv_cache_quant_algo == 'NVFP4' and not use_fp8_context_fmha",
        keys=("engine.use_fp8_context_fmha",),
        says="the KV cache is NVFP4, which needs `engine.use_fp8_context_fmha`",
        fix="add `use_fp8_context_fmha: true`",
        source=_OP,
        sure="1.3rc3",
    ),
)
