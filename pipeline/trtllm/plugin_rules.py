"""Rules of plugins and fusions against the checkpoint: dtype, quantization, class, ranks."""

from __future__ import annotations

from pipeline.trtllm.rules import Rule

REDUCE_FUSION_ARCHITECTURES = ("LlamaForCausalLM", "Gemma2ForCausalLM", "MedusaForCausalLM")
FP8_ALGOS = ("FP8", "W4A8_AWQ", "NVFP4")
"""Quantizations with which TensorRT-LLM leaves FP8 context attention on."""

_BUILDER = "TensorRT-LLM `builder.py`"
_LLAMA = "TensorRT-LLM `models/llama/model.py`"
_MLP = "TensorRT-LLM `layers/mlp.py`, FusedGatedMLP"
_MOE = "TensorRT-LLM `layers/moe.py`"
_SWIGLU = "(gemm_swiglu_plugin != None or low_latency_gemm_swiglu_plugin != None)"
_SWIGLU_KEYS = ("engine.gemm_swiglu_plugin", "engine.low_latency_gemm_swiglu_plugin")

FUSION_RULES = (
    Rule(
        name="reduce-fusion-one-rank",
        effect="changed",
        when="reduce_fusion and tp_size == 1",
        keys=("engine.reduce_fusion", "checkpoint.tp_size"),
        says="`engine.reduce_fusion` is true, but `checkpoint.tp_size` is 1: there is no "
        "all-reduce, and TensorRT-LLM turns it off",
        fix="remove `reduce_fusion`",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="reduce-fusion-of-other-architectures",
        effect="changed",
        when="reduce_fusion and tp_size > 1"
        f" and model.architecture not in {REDUCE_FUSION_ARCHITECTURES}",
        keys=("engine.reduce_fusion",),
        says="`engine.reduce_fusion` is true, but TensorRT-LLM turns it off for "
        "`{model[architecture]}`: it is there for LlamaForCausalLM and Gemma2ForCausalLM",
        fix="remove `reduce_fusion`",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="reduce-fusion-drops-multiplier",
        effect="refused",
        when="reduce_fusion and 'residual_multiplier' in model and model.residual_multiplier != 1",
        keys=("engine.reduce_fusion",),
        says="`engine.reduce_fusion` is true, but the model scales its residuals by "
        "{model[residual_multiplier]}, which the fused kernel leaves out: the text would be wrong",
        fix="remove `reduce_fusion`",
        source=_LLAMA,
        sure="1.3rc3",
    ),
    Rule(
        name="reduce-fusion-with-residual-mlp",
        effect="refused",
        when="reduce_fusion and 'residual_mlp' in model and model.residual_mlp",
        keys=("engine.reduce_fusion",),
        says="`engine.reduce_fusion` is true, but the model has a second MLP beside the residual, "
        "which the class does not combine with it",
        fix="remove `reduce_fusion`",
        source=_LLAMA,
        sure="1.3rc3",
    ),
    Rule(
        name="user-buffer-without-fp8",
        effect="refused",
        when="user_buffer and reduce_fusion and quant_algo not in ('FP8', 'NVFP4')",
        keys=("engine.user_buffer",),
        says="`engine.user_buffer` is true, but the checkpoint is not quantised in FP8 or NVFP4",
        fix="remove `user_buffer`",
        source=_LLAMA,
        sure="1.3rc3",
    ),
    Rule(
        name="user-buffer-nvfp4-gemm",
        effect="refused",
        when="user_buffer and reduce_fusion and quant_algo == 'NVFP4' and gemm_plugin != 'nvfp4'",
        keys=("engine.gemm_plugin", "engine.user_buffer"),
        says="`engine.user_buffer` is true for an NVFP4 checkpoint, which needs "
        "`engine.gemm_plugin: nvfp4`",
        fix="set `gemm_plugin: nvfp4`, or remove `user_buffer`",
        source=_LLAMA,
        sure="1.3rc3",
    ),
    Rule(
        name="norm-quant-fusion-elsewhere",
        effect="changed",
        when="norm_quant_fusion and not reduce_fusion"
        " and (model.architecture != 'LlamaForCausalLM' or quant_algo != 'NVFP4')",
        keys=("engine.norm_quant_fusion",),
        says="`engine.norm_quant_fusion` is true, but TensorRT-LLM turns it off: it is there for "
        "NVFP4 checkpoints of LlamaForCausalLM",
        fix="remove `norm_quant_fusion`",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="pp-reduce-scatter-elsewhere",
        effect="refused",
        when="pp_reduce_scatter and model.architecture != 'MixtralForCausalLM'",
        keys=("engine.pp_reduce_scatter",),
        says="`engine.pp_reduce_scatter` is true, but the model is `{model[architecture]}`: it is "
        "there for MixtralForCausalLM alone",
        fix="remove `pp_reduce_scatter`",
        source="TensorRT-LLM `commands/build.py`, build_model",
        sure="1.2",
    ),
    Rule(
        name="fp4-output-without-nvfp4",
        effect="refused",
        when="fuse_fp4_quant and quant_algo != 'NVFP4'",
        keys=("engine.fuse_fp4_quant",),
        says="`engine.fuse_fp4_quant` is true, but the checkpoint is not quantised in NVFP4",
        fix="remove `fuse_fp4_quant`",
        source="TensorRT-LLM `functional.py`, gpt_attention",
        sure="1.3rc3",
    ),
)

PLUGIN_RULES = (
    Rule(
        name="attention-plugin-dtype",
        effect="refused",
        when="gpt_attention_plugin not in ('auto', 'int32', None)"
        " and gpt_attention_plugin != model.dtype",
        keys=("engine.gpt_attention_plugin", "checkpoint.dtype"),
        says="`engine.gpt_attention_plugin` is `{gpt_attention_plugin}`, but the checkpoint is "
        "{model[dtype]}",
        fix="write `auto`, or set `checkpoint.dtype`",
        source="TensorRT-LLM `functional.py`, gpt_attention",
        sure="inferred",
    ),
    Rule(
        name="gemm-plugin-dtype",
        effect="refused",
        when="gemm_plugin in ('float16', 'bfloat16', 'float32') and gemm_plugin != model.dtype"
        " and quant_algo != 'NVFP4'",
        keys=("engine.gemm_plugin", "checkpoint.dtype"),
        says="`engine.gemm_plugin` is `{gemm_plugin}`, but the checkpoint is {model[dtype]}",
        fix="write `auto`, or set `checkpoint.dtype`",
        source="TensorRT-LLM `layers/linear.py`, _gemm_plugin",
        sure="inferred",
    ),
    Rule(
        name="gemm-plugin-nvfp4",
        effect="changed",
        when="quant_algo == 'NVFP4' and gemm_plugin not in (None, 'nvfp4')",
        keys=("engine.gemm_plugin",),
        says="`engine.gemm_plugin` is `{gemm_plugin}`, but TensorRT-LLM sets `nvfp4` for an NVFP4 "
        "checkpoint",
        fix="set `gemm_plugin: nvfp4`, or null for TensorRT's own kernels",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="nccl-plugin-overwritten",
        effect="changed",
        when="world_size > 1 and nccl_plugin not in ('auto', 'int32')"
        " and nccl_plugin != model.dtype",
        keys=("engine.nccl_plugin",),
        says="`engine.nccl_plugin` is given, but with several ranks TensorRT-LLM sets it to the "
        "checkpoint's dtype, {model[dtype]}",
        fix="remove `nccl_plugin`",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="gemm-swiglu-without-fp8",
        effect="refused",
        when=f"{_SWIGLU} and quant_algo != 'FP8'",
        keys=_SWIGLU_KEYS,
        says="a plugin for matrix product and SwiGLU is on, but the checkpoint is not quantised "
        "in FP8",
        fix="set `gemm_swiglu_plugin` and `low_latency_gemm_swiglu_plugin` to null",
        source=_MLP,
        sure="1.3rc3",
    ),
    Rule(
        name="gemm-swiglu-activation",
        effect="refused",
        when=f"{_SWIGLU} and model.hidden_act not in ('silu', 'swiglu')",
        keys=_SWIGLU_KEYS,
        says="a plugin for matrix product and SwiGLU is on, but the model's activation is "
        "`{model[hidden_act]}`",
        fix="set `gemm_swiglu_plugin` and `low_latency_gemm_swiglu_plugin` to null",
        source=_MLP,
        sure="1.3rc3",
    ),
    Rule(
        name="gemm-swiglu-bias",
        effect="refused",
        when=f"{_SWIGLU} and 'mlp_bias' in model and model.mlp_bias",
        keys=_SWIGLU_KEYS,
        says="a plugin for matrix product and SwiGLU is on, but the model's MLP has biases",
        fix="set `gemm_swiglu_plugin` and `low_latency_gemm_swiglu_plugin` to null",
        source=_MLP,
        sure="1.3rc3",
    ),
    Rule(
        name="unplugged-experts-grouped",
        effect="refused",
        when="moe_plugin == None and num_experts > 0 and model.moe.normalization_mode in (3, 4)",
        keys=("engine.moe_plugin",),
        says="`engine.moe_plugin` is null, but the model chooses its experts by groups of devices, "
        "which only the plugin does",
        fix="remove `moe_plugin: null`",
        source=f"{_MOE}, MoeOOTB",
        sure="1.3rc3",
    ),
    Rule(
        name="unplugged-experts-weight-only",
        effect="refused",
        when="moe_plugin == None and num_experts > 0"
        " and quant_algo in ('W8A16', 'W4A16', 'W4A16_AWQ', 'W4A16_GPTQ', 'W8A16_GPTQ')",
        keys=("engine.moe_plugin",),
        says="`engine.moe_plugin` is null, but the experts are quantised as {quant_algo}, which "
        "only the plugin computes",
        fix="remove `moe_plugin: null`",
        source=f"{_MOE}, MoeOOTB",
        sure="1.3rc3",
    ),
    Rule(
        name="experts-fp8-rowwise",
        effect="refused",
        when="num_experts > 0 and quant_algo == 'FP8_PER_CHANNEL_PER_TOKEN'",
        keys=("checkpoint.quantization",),
        says="the checkpoint is quantised in FP8 row by row, which experts are not computed in",
        fix="quantise it as FP8",
        source=_MOE,
        sure="1.3rc3",
    ),
    Rule(
        name="managed-weights-without-plugin",
        effect="refused",
        when="fast_build and quant_algo in ('W8A16', 'W4A16', 'W4A16_AWQ', 'W4A8_AWQ',"
        " 'W4A16_GPTQ', 'W8A16_GPTQ') and 'disable_weight_only_quant_plugin' in model"
        " and model.disable_weight_only_quant_plugin",
        keys=("engine.fast_build",),
        says="`engine.fast_build` is true, but the checkpoint's quantised weights are computed "
        "without their plugin, which it needs",
        fix="remove `fast_build`",
        source=_BUILDER,
        sure="1.2",
    ),
)
