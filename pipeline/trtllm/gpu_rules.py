"""Rules of GPUs: which are built for at all, and in which types."""

from __future__ import annotations

from pipeline.trtllm.rules import Rule

SUPPORTED = (75, 80, 86, 89, 90, 100, 103, 120, 121)
"""Targets of the 1.2 line; 75 is deprecated."""

INT_ALGOS = ("W8A16", "W4A16", "W8A16_GPTQ", "W4A16_GPTQ", "W4A16_AWQ", "W4A8_AWQ", "INT8")
SMOOTH_ALGOS = (
    "W8A8_SQ_PER_CHANNEL",
    "W8A8_SQ_PER_TENSOR_PLUGIN",
    "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN",
    "W8A8_SQ_PER_CHANNEL_PER_TENSOR_PLUGIN",
    "W8A8_SQ_PER_TENSOR_PER_TOKEN_PLUGIN",
)
FP8_WEIGHT_ALGOS = ("FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_BLOCK_SCALES", "W4A8_AWQ")
PYTORCH_ALGOS = (
    "FP8_BLOCK_SCALES",
    "NVFP4_AWQ",
    "W4A16_MXFP4",
    "W4A8_MXFP4_FP8",
    "W4A8_MXFP4_MXFP8",
    "W4A8_NVFP4_FP8",
)

_BUILDER = "TensorRT-LLM `builder.py`"
_MATRIX = "TensorRT-LLM `docs/source/legacy/reference/support-matrix.md`"
_VALIDATE = "TensorRT-LLM `plugin/plugin.py`, PluginConfig.validate"
_MISSING_ON_SM100 = (
    ("gemm_swiglu_plugin", "!= None"),
    ("fp8_rowwise_gemm_plugin", "!= None"),
    ("low_latency_gemm_plugin", "!= None"),
    ("low_latency_gemm_swiglu_plugin", "!= None"),
    ("bert_context_fmha_fp32_acc", "== True"),
)
"""Option -> how the formula of a rule says that it is set."""
_TARGETS = ("engine.targets",)
_QUANTIZATION = ("engine.targets", "checkpoint.quantization")

GPU_RULES = (
    Rule(
        name="one-target",
        effect="refused",
        when="num_targets > 1",
        keys=_TARGETS,
        says="`engine.targets` has {num_targets} GPU architectures, but an engine of TensorRT-LLM "
        "is built on one kind of GPU and runs on it alone",
        fix="give one target, and a variant of the recipe for each other",
        source="TensorRT-LLM `docs/source/legacy/architecture/workflow.md`",
        sure="1.x",
    ),
    Rule(
        name="volta-dropped",
        effect="refused",
        when="sm == 70",
        keys=_TARGETS,
        says="{target} (V100) was dropped by TensorRT-LLM",
        fix="choose `engine.targets` of Ampere (`sm80`) or later",
        source="TensorRT-LLM release notes",
        sure="1.2",
    ),
    Rule(
        name="orin-not-built-for",
        effect="refused",
        when="sm == 87",
        keys=_TARGETS,
        says="{target} (Jetson Orin) has no attention kernels in this line",
        fix="TensorRT-Edge-LLM is for such boards; choose another target here",
        source="NVIDIA/TensorRT-LLM issue 1516; `fmhaRunner.cpp`",
        sure="1.3rc3",
    ),
    Rule(
        name="target-unknown",
        effect="refused",
        when=f"sm not in {SUPPORTED} and sm not in (70, 87)",
        keys=_TARGETS,
        says="{target} is none of the GPUs that this line is made for",
        fix="choose one of " + ", ".join(f"`sm{number}`" for number in SUPPORTED),
        source=_MATRIX,
        sure="1.2",
    ),
    Rule(
        name="turing-no-fused-kernels",
        effect="refused",
        when="sm == 75 and context_fmha and gpt_attention_plugin != None"
        " and model.dtype == 'float16'",
        keys=("engine.attention.context_fmha", "engine.targets"),
        says="{target} (T4) has no fused context kernels: with `context_fmha` on, building ends "
        "in an abort (`Unsupported architecture`)",
        fix="ask for unfused attention by `engine.attention: {{context_fmha: false, "
        "require_fused: false}}` and `use_paged_context_fmha: false`",
        source="TensorRT-LLM `fmhaRunner.cpp`",
        sure="1.3rc3",
    ),
    Rule(
        name="turing-deprecated",
        effect="ignored",
        when="sm == 75",
        keys=_TARGETS,
        says="{target} (T4) is deprecated in this line, and not in its support matrix",
        fix="choose `engine.targets` of Ampere (`sm80`) or later",
        source=_MATRIX,
        sure="1.2",
    ),
    Rule(
        name="bfloat16-before-ampere",
        effect="refused",
        when="sm < 80 and model.dtype == 'bfloat16'",
        keys=("checkpoint.dtype", "engine.targets"),
        says="the checkpoint is bfloat16, which {target} does not have",
        fix="set `checkpoint.dtype: float16`",
        source="TensorRT-LLM `attentionOp.cpp`, AttentionOp::initialize",
        sure="1.2",
    ),
    Rule(
        name="fp8-before-ada",
        effect="refused",
        when=f"sm < 89 and quant_algo in {FP8_WEIGHT_ALGOS}",
        keys=_QUANTIZATION,
        says="the checkpoint is quantised as {quant_algo}, but {target} has no FP8 arithmetic",
        fix="choose a target from `sm89` on",
        source=_MATRIX,
        sure="1.2",
    ),
    Rule(
        name="fp8-cache-before-ada",
        effect="refused",
        when="sm < 89 and kv_cache_quant_algo == 'FP8'",
        keys=_QUANTIZATION,
        says="the KV cache is FP8, which {target} does not have",
        fix="choose a target from `sm89` on, or another type of KV cache",
        source=_MATRIX,
        sure="1.x",
    ),
    Rule(
        name="nvfp4-before-blackwell",
        effect="refused",
        when="sm < 100 and (quant_algo == 'NVFP4' or kv_cache_quant_algo == 'NVFP4')",
        keys=_QUANTIZATION,
        says="the checkpoint is quantised in NVFP4, but {target} is older than Blackwell",
        fix="choose a target from `sm100` on",
        source=_MATRIX,
        sure="1.2",
    ),
    Rule(
        name="int-weights-on-blackwell",
        effect="refused",
        when=f"sm >= 100 and sm < 120 and quant_algo in {INT_ALGOS}",
        keys=_QUANTIZATION,
        says="the weights are quantised as {quant_algo}: INT8 and INT4 are not there for {target}",
        fix="quantise as FP8 or NVFP4",
        source=_BUILDER,
        sure="1.x",
    ),
    Rule(
        name="int8-cache-on-blackwell",
        effect="refused",
        when="sm >= 100 and sm < 120 and kv_cache_quant_algo == 'INT8'",
        keys=_QUANTIZATION,
        says="the KV cache is INT8, which is not there for {target}",
        fix="use an FP8 KV cache",
        source=_BUILDER,
        sure="1.x",
    ),
    Rule(
        name="smoothquant-on-blackwell",
        effect="refused",
        when=f"sm >= 100 and sm < 120 and quant_algo in {SMOOTH_ALGOS}",
        keys=_QUANTIZATION,
        says="the checkpoint is quantised as {quant_algo}: SmoothQuant is not there for {target}",
        fix="quantise as FP8 or NVFP4",
        source=_BUILDER,
        sure="1.x",
    ),
    Rule(
        name="quantization-of-pytorch",
        effect="refused",
        when=f"quant_algo in {PYTORCH_ALGOS}",
        keys=("checkpoint.quantization",),
        says="the checkpoint is quantised as {quant_algo}, which the PyTorch backend alone runs",
        fix="quantise as FP8 or NVFP4, or make a package for `trtllm-serve`",
        source="TensorRT-LLM `quantization/mode.py`, `builder.py`",
        sure="inferred",
    ),
    *(
        Rule(
            name=f"{option.replace('_', '-')}-on-sm100",
            effect="refused",
            when=f"sm == 100 and {option} {unset}",
            keys=(f"engine.{option}", "engine.targets"),
            says=f"`engine.{option}` is set, but it is not there for {{target}}",
            fix=f"remove `{option}`",
            source=_VALIDATE,
            sure="1.2",
        )
        for option, unset in _MISSING_ON_SM100
    ),
    Rule(
        name="gemm-swiglu-target",
        effect="refused",
        when="gemm_swiglu_plugin != None and sm not in (90, 100)",
        keys=("engine.gemm_swiglu_plugin", "engine.targets"),
        says="`engine.gemm_swiglu_plugin` is `{gemm_swiglu_plugin}`, which is there for Hopper "
        "(sm90) alone, not for {target}",
        fix="remove it",
        source="TensorRT-LLM `plugin/plugin.py`, its description",
        sure="1.2",
    ),
    Rule(
        name="fp4-output-target",
        effect="refused",
        when="fuse_fp4_quant and sm not in (100, 103, 120, 121)",
        keys=("engine.fuse_fp4_quant", "engine.targets"),
        says="`engine.fuse_fp4_quant` is true, but {target} is older than Blackwell",
        fix="remove `fuse_fp4_quant`",
        source="TensorRT-LLM `attentionOp.cpp`, AttentionOp::initialize",
        sure="1.3rc3",
    ),
    Rule(
        name="unplugged-experts-on-blackwell",
        effect="refused",
        when="moe_plugin == None and num_experts > 0 and sm >= 100",
        keys=("engine.moe_plugin", "engine.targets"),
        says="`engine.moe_plugin` is null, but on {target} only the plugin computes experts",
        fix="remove `moe_plugin: null`",
        source="TensorRT-LLM `layers/moe.py`, MoeOOTB",
        sure="1.3rc3",
    ),
)
