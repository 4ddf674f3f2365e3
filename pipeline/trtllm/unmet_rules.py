"""What an option asks for and the engine would not have, of which TensorRT-LLM says nothing."""

from __future__ import annotations

from pipeline.trtllm.rules import Rule

UNMET_RULES = (
    Rule(
        name="paged-context-without-paged-cache",
        effect="unmet",
        when="use_paged_context_fmha and context_fmha and kv_cache_type == 'disabled'",
        keys=("engine.use_paged_context_fmha", "engine.kv_cache_type"),
        says="`engine.use_paged_context_fmha` is true, but there is no KV cache to read",
        fix="add `use_paged_context_fmha: false`",
        source="TensorRT-LLM `attentionOp.cpp`, AttentionOp::initialize",
        sure="1.3rc3",
    ),
    Rule(
        name="dora-idle",
        effect="unmet",
        when="dora_plugin and lora_plugin == None",
        keys=("engine.dora_plugin", "engine.lora_plugin"),
        says="`engine.dora_plugin` is true, but `engine.lora_plugin` is null: DoRA is a form of "
        "LoRA adapters",
        fix="add `lora_plugin: auto` and `lora_target_modules`, or remove `dora_plugin`",
        source="TensorRT-LLM `models/modeling_utils.py`, optimize_model",
        sure="1.3rc3",
    ),
    Rule(
        name="weight-streaming-with-gemm-plugin",
        effect="unmet",
        when="weight_streaming and gemm_plugin != None",
        keys=("engine.gemm_plugin", "engine.weight_streaming"),
        says="`engine.weight_streaming` is true, but with `engine.gemm_plugin` most weights are "
        "the plugin's, which are not streamed",
        fix="remove `gemm_plugin`",
        source="TensorRT-LLM `docs/source/legacy/advanced/weight-streaming.md`",
        sure="1.3rc3",
    ),
    Rule(
        name="gemm-plugin-fp8-idle",
        effect="unmet",
        when="gemm_plugin == 'fp8' and quant_algo != 'FP8'",
        keys=("engine.gemm_plugin",),
        says="`engine.gemm_plugin` is `fp8`, but the checkpoint is not quantised in FP8: it works "
        "as `auto`",
        fix="write `auto`",
        source="TensorRT-LLM `layers/linear.py`, multiply_and_lora",
        sure="1.3rc3",
    ),
    Rule(
        name="gemm-plugin-nvfp4-idle",
        effect="unmet",
        when="gemm_plugin == 'nvfp4' and quant_algo != 'NVFP4'",
        keys=("engine.gemm_plugin",),
        says="`engine.gemm_plugin` is `nvfp4`, but the checkpoint is not quantised in NVFP4: it "
        "works as null",
        fix="write `auto`, or remove it",
        source="TensorRT-LLM `layers/linear.py`, multiply_and_lora",
        sure="1.3rc3",
    ),
    Rule(
        name="low-latency-gemm-idle",
        effect="unmet",
        when="low_latency_gemm_plugin != None and quant_algo != 'FP8'",
        keys=("engine.low_latency_gemm_plugin",),
        says="`engine.low_latency_gemm_plugin` is set, but the checkpoint is not quantised in FP8",
        fix="remove it",
        source="TensorRT-LLM `layers/linear.py`, `quantization/layers.py`",
        sure="inferred",
    ),
    Rule(
        name="fp8-rowwise-idle",
        effect="unmet",
        when="fp8_rowwise_gemm_plugin != None and quant_algo != 'FP8_PER_CHANNEL_PER_TOKEN'",
        keys=("engine.fp8_rowwise_gemm_plugin",),
        says="`engine.fp8_rowwise_gemm_plugin` is set, but the checkpoint is not quantised in FP8 "
        "row by row; where it is, TensorRT-LLM sets it itself",
        fix="remove it",
        source="TensorRT-LLM `builder.py`, build",
        sure="1.3rc3",
    ),
    Rule(
        name="gemm-allreduce-one-rank",
        effect="unmet",
        when="gemm_allreduce_plugin != None and tp_size == 1",
        keys=("engine.gemm_allreduce_plugin", "checkpoint.tp_size"),
        says="`engine.gemm_allreduce_plugin` is set, but `checkpoint.tp_size` is 1: there is no "
        "all-reduce",
        fix="remove it",
        source="TensorRT-LLM `layers/linear.py`, RowLinear",
        sure="inferred",
    ),
    Rule(
        name="pp-reduce-scatter-idle",
        effect="unmet",
        when="pp_reduce_scatter and pp_size == 1 and model.architecture == 'MixtralForCausalLM'",
        keys=("engine.pp_reduce_scatter", "checkpoint.pp_size"),
        says="`engine.pp_reduce_scatter` is true, but `checkpoint.pp_size` is 1",
        fix="remove it",
        source="TensorRT-LLM `models/llama/model.py`",
        sure="1.3rc3",
    ),
)
