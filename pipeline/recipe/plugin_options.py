"""Options of TensorRT-LLM's PluginConfig, by the names of its fields.

Names, values and defaults are checked against `pipeline/trtllm/facts.json` by a test. `auto` is the
checkpoint's dtype, null turns a plugin off (`disable` on the command line). `context_fmha` is a key
of `engine.attention`, since all backends have it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.recipe.section import PositiveInt, Section

PluginDtype = Literal["auto", "float16", "float32", "bfloat16", "int32"] | None
GemmDtype = Literal["auto", "float16", "float32", "bfloat16", "int32", "fp8", "nvfp4"] | None


class PluginOptions(Section):
    """Which plugins of TensorRT-LLM are used, and how."""

    gpt_attention_plugin: PluginDtype = Field(
        "auto", description="Attention plugin of decoders; without it no attention is fused"
    )
    bert_attention_plugin: PluginDtype = Field("auto", description="Attention plugin of encoders")
    gemm_plugin: GemmDtype = Field(
        None, description="Matrix products by cuBLASLt instead of TensorRT's own kernels"
    )
    gemm_swiglu_plugin: Literal["fp8"] | None = Field(
        None, description="Matrix product and SwiGLU in one kernel (FP8, Hopper)"
    )
    low_latency_gemm_plugin: Literal["fp8"] | None = Field(
        None, description="Matrix products for small batches (FP8)"
    )
    low_latency_gemm_swiglu_plugin: Literal["fp8"] | None = Field(
        None, description="Matrix product and SwiGLU for small batches (FP8)"
    )
    gemm_allreduce_plugin: Literal["float16", "bfloat16"] | None = Field(
        None, description="Matrix product and all-reduce in one kernel"
    )
    fp8_rowwise_gemm_plugin: PluginDtype = Field(
        None, description="Matrix products of row-wise quantised FP8 weights"
    )
    nccl_plugin: PluginDtype = Field(
        "auto", description="Collectives between ranks; off where there is one rank"
    )
    lora_plugin: PluginDtype = Field(None, description="LoRA adapters, given at run time")
    dora_plugin: bool = Field(False, description="DoRA adapters")
    moe_plugin: PluginDtype = Field("auto", description="Mixture-of-experts kernels")
    mamba_conv1d_plugin: PluginDtype = Field("auto", description="Convolutions of Mamba")
    bert_context_fmha_fp32_acc: bool = Field(
        False, description="Encoder attention accumulates in float32"
    )
    remove_input_padding: bool = Field(
        True, description="Packed input: tokens of all sequences without padding between them"
    )
    tokens_per_block: PositiveInt = Field(32, description="Tokens of a page of the KV cache")
    use_paged_context_fmha: bool = Field(
        True,
        description="Context attention reads the paged KV cache, for reuse of its pages and for "
        "chunked context",
    )
    use_fp8_context_fmha: bool = Field(
        False, description="Context attention computes in FP8 (quantised checkpoints only)"
    )
    fuse_fp4_quant: bool = Field(False, description="Attention writes FP4 (Blackwell)")
    norm_quant_fusion: bool = Field(False, description="Norm and quantisation in one kernel")
    reduce_fusion: bool = Field(False, description="All-reduce, residual and norm in one kernel")
    user_buffer: bool = Field(False, description="All-reduce in registered buffers")
    multiple_profiles: bool = Field(False, description="Several optimisation profiles")
    paged_state: bool = Field(True, description="Paged state of recurrent models")
    streamingllm: bool = Field(False, description="StreamingLLM")
    use_fused_mlp: bool = Field(
        True, description="Both input matrices of a gated MLP as one product"
    )
    pp_reduce_scatter: bool = Field(
        False, description="Reduce-scatter between pipeline ranks (Mixtral)"
    )
