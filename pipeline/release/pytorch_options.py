"""What becomes of every recipe key where a package has no engine (kind `pytorch`): data.

`trtllm-serve` of TensorRT-LLM 1.3 and later reads one YAML file; its keys are in `facts.json`,
section `serve_options`, which a test holds these rows against. A key is carried over, or it has no
meaning there, which the release says, or what it asks cannot be had, which the plan refuses.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.artifact import Json


@dataclass(frozen=True, slots=True)
class Carried:
    """The value becomes that of an option; null leaves TensorRT-LLM's default."""

    key: str
    option: str


@dataclass(frozen=True, slots=True)
class Idle:
    """No value of the key means anything there. `key` may be a whole section."""

    key: str
    because: str


@dataclass(frozen=True, slots=True)
class Only:
    """Only these values can be had; they need no option. `because` says why no other."""

    key: str
    values: tuple[Json, ...]
    because: str
    hint: str | None = None


Row = Carried | Idle | Only

_NO_CONVERSION = "weights are passed on as they are, and TensorRT-LLM shares them among ranks"
_NO_BUILD = "nothing is built"
_KERNELS = "TensorRT-LLM's PyTorch backend chooses its own kernels, there are no plugins"
_NO_ADAPTERS = (
    "which modules adapters change is told by `lora_config`, which this version does not write"
)
_NO_DRAFTS = "speculative decoding there has other modes, with options of their own"
_NOTHING_RUNS = "nothing is executed: TensorRT-LLM runs such a package without an engine"

ROWS: tuple[Row, ...] = (
    Carried("checkpoint.dtype", "dtype"),
    Carried("checkpoint.tp_size", "tensor_parallel_size"),
    Carried("checkpoint.pp_size", "pipeline_parallel_size"),
    Carried("checkpoint.cp_size", "context_parallel_size"),
    Carried("checkpoint.moe_tp_size", "moe_tensor_parallel_size"),
    Carried("checkpoint.moe_ep_size", "moe_expert_parallel_size"),
    Idle("checkpoint.use_parallel_embedding", _NO_CONVERSION),
    Idle("checkpoint.embedding_sharding_dim", _NO_CONVERSION),
    Idle("checkpoint.clamp", "nothing is cast here"),
    Only(
        "checkpoint.quantization",
        ("none",),
        "weights are passed on as they are",
        hint="point `source` to a checkpoint that is quantised already, and leave "
        "`checkpoint.quantization` out",
    ),
    Only("verify.logits", (False,), "nothing is converted that could be executed here"),
    *(
        Idle(f"verify.{key}", "no logits are compared")
        for key in (
            *("layers", "prompts", "tokens", "seed", "texts"),
            *("min_cosine", "max_norm_error", "max_relative_error"),
        )
    ),
    Carried("engine.max_batch_size", "max_batch_size"),
    Carried("engine.max_input_len", "max_input_len"),
    Carried("engine.max_seq_len", "max_seq_len"),
    Carried("engine.max_beam_width", "max_beam_width"),
    Carried("engine.max_num_tokens", "max_num_tokens"),
    Carried("engine.gather_generation_logits", "gather_generation_logits"),
    Carried("engine.tokens_per_block", "kv_cache_config.tokens_per_block"),
    Only(
        "engine.attention.require_fused",
        (False,),
        "fused attention is proved of an engine, and there is none: not built, not observed",
        hint="set `engine.attention.require_fused: false`, which the release then says",
    ),
    Only(
        "engine.attention.context_fmha",
        (True,),
        "the attention backend `TRTLLM` has no switch for it",
        hint="remove `engine.attention.context_fmha: false`",
    ),
    Only("engine.kv_cache_type", ("paged",), "the KV cache is always paged there"),
    Only("engine.logits_dtype", (None,), "there is no option for it"),
    Only("engine.gather_context_logits", (False,), "there is no option for it: requests ask"),
    Only("engine.max_prompt_embedding_table_size", (0,), "there are no such tables"),
    Only("engine.speculative_decoding_mode", (None,), _NO_DRAFTS),
    Only("engine.max_draft_len", (0,), _NO_DRAFTS),
    Only("engine.lora_plugin", (None,), _NO_ADAPTERS),
    Only("engine.lora_target_modules", ((),), _NO_ADAPTERS),
    Only("engine.dora_plugin", (False,), _NO_ADAPTERS),
    Only("engine.weight_streaming", (False,), "weights stay on the GPU there"),
    Only("engine.streamingllm", (False,), "StreamingLLM is not there"),
    Idle("engine.lora_ckpt_source", "adapters are refused"),
    Idle("engine.max_lora_rank", "adapters are refused"),
    Idle("engine.device", "TensorRT-LLM executes on GPUs"),
    Idle("engine.backend", "TensorRT-LLM's PyTorch backend computes"),
    Idle("engine.targets", "nothing is compiled for a GPU beforehand"),
    Idle("engine.tensorrt", _NO_BUILD),
    Idle("engine.max_encoder_input_len", "decoders do not read it"),
    *(
        Idle(f"engine.{key}", _NO_BUILD)
        for key in (
            "opt_num_tokens",
            "use_strip_plan",
            "weight_sparsity",
            "fast_build",
            "profiling_verbosity",
            "enable_debug_output",
            "monitor_memory",
            "workers",
            "use_timing_cache",
            "build_timeout_s",
            "multiple_profiles",
            "kv_cache_tokens",
        )
    ),
    *(
        Idle(f"engine.{key}", _KERNELS)
        for key in (
            "gpt_attention_plugin",
            "bert_attention_plugin",
            "gemm_plugin",
            "gemm_swiglu_plugin",
            "low_latency_gemm_plugin",
            "low_latency_gemm_swiglu_plugin",
            "gemm_allreduce_plugin",
            "fp8_rowwise_gemm_plugin",
            "nccl_plugin",
            "moe_plugin",
            "mamba_conv1d_plugin",
            "bert_context_fmha_fp32_acc",
            "remove_input_padding",
            "use_paged_context_fmha",
            "use_fp8_context_fmha",
            "fuse_fp4_quant",
            "norm_quant_fusion",
            "reduce_fusion",
            "user_buffer",
            "paged_state",
            "use_fused_mlp",
            "pp_reduce_scatter",
        )
    ),
    Only("smoke.require_engine", (False,), "there is no engine to execute"),
    Idle("smoke", _NOTHING_RUNS),
    Carried("package.serving.kv_cache_fraction", "kv_cache_config.free_gpu_memory_fraction"),
    Carried("package.serving.kv_cache_reuse", "kv_cache_config.enable_block_reuse"),
    Carried("package.serving.chunked_context", "enable_chunked_prefill"),
    Idle("package.serving.streaming", "`trtllm-serve` streams where a request asks for it"),
    Idle("package.serving.triton_image", "Triton does not serve it"),
    Idle("package.kind", "it is what makes this package"),
    Idle("package.formats", "it says what is made of the release folder"),
)
"""Rows of the same key or section: the first one that is about a key holds."""

ALWAYS: dict[str, Json] = {"attn_backend": "TRTLLM", "trust_remote_code": False}
"""Options with a value that no recipe key decides: fused attention of TensorRT-LLM's own, and no
code of the model's authors."""

RANK_KEYS = ("tensor_parallel_size", "pipeline_parallel_size", "context_parallel_size")
"""Options whose product is the number of GPUs."""
