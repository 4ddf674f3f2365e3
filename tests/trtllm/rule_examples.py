"""For each rule what breaks it, and the same with its fix applied."""

from __future__ import annotations

from tests.trtllm.judged import UNFUSED, Case, case, quantised, ranks

GOOD = case()
"""Breaks no rule at all: what is left when an option is removed."""

_EXPERTS = {"moe": {"num_experts": 8, "top_k": 2, "normalization_mode": 1}}
_MIXTRAL = {"architecture": "MixtralForCausalLM", **_EXPERTS}
_GROUPED = {"moe": {"num_experts": 8, "top_k": 2, "normalization_mode": 3}}
_CAPPED = {"architecture": "Gemma2ForCausalLM", "attn_logit_softcapping": 50.0}
_ALIBI = {"position_embedding_type": "alibi"}
_SPARSE = {"blocksparse_block_size": 64, "blocksparse_num_local_blocks": 16}
_FP8 = quantised("FP8", "FP8")
_LATENT = {"architecture": "DeepseekV2ForCausalLM", "head_size": 192}
_MPT = {"architecture": "MPTForCausalLM"}
_LORA = {"lora_plugin": "auto", "lora_target_modules": ["attn_qkv"]}
_DRAFT = {"speculative_decoding_mode": "draft_tokens_external", "max_draft_len": 5}
_EAGLE = {"speculative_decoding_mode": "eagle", "max_draft_len": 5}
_SMALL = {"max_batch_size": 2, "max_input_len": 512, "max_seq_len": 1024}
_OFF = {"attention": UNFUSED, "use_paged_context_fmha": False}
_DYNAMIC = {"type": "dynamic", "factor": 2.0, "alpha": 1.0}


def _yarn(**keys: object) -> Case:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
    return case(model={"rotary_scaling": {**scaling, **keys}})


OPTIONS = {
    "streamingllm-gone": (case(streamingllm=True), GOOD),
    "paged-context-without-context-fmha": (case(attention=UNFUSED), case(**_OFF)),
    "fp8-context-without-context-fmha": (
        case(**_OFF, use_fp8_context_fmha=True),
        case(**_OFF),
    ),
    "fp32-acc-turns-context-fmha-on": (
        case(**_OFF, bert_context_fmha_fp32_acc=True),
        case(**_OFF),
    ),
    "continuous-cache-not-runnable": (case(kv_cache_type="continuous"), GOOD),
    "padded-input-not-runnable": (case(remove_input_padding=False), GOOD),
    "profiles-with-opt-tokens": (
        case(multiple_profiles=True, opt_num_tokens=64),
        case(multiple_profiles=True),
    ),
    "user-buffer-without-reduce-fusion": (
        case(user_buffer=True),
        case(user_buffer=True, reduce_fusion=True),
    ),
    "user-buffer-with-pp-reduce-scatter": (
        case(user_buffer=True, reduce_fusion=True, pp_reduce_scatter=True),
        case(user_buffer=True, reduce_fusion=True),
    ),
    "two-norm-fusions": (
        case(norm_quant_fusion=True, reduce_fusion=True),
        case(reduce_fusion=True),
    ),
    "gemm-swiglu-without-fused-mlp": (
        case(gemm_swiglu_plugin="fp8", use_fused_mlp=False),
        case(gemm_swiglu_plugin="fp8"),
    ),
    "int32-plugin": (case(gemm_plugin="int32"), case(gemm_plugin="auto")),
    "fp4-output-without-context-fmha": (case(**_OFF, fuse_fp4_quant=True), case(**_OFF)),
    "context-logits-with-draft": (case(**_DRAFT, gather_context_logits=True), case(**_DRAFT)),
    "num-tokens-of-padded-input": (
        case(remove_input_padding=False, max_num_tokens=64),
        case(remove_input_padding=False),
    ),
}

LIMITS = {
    "num-tokens-over-batch": (
        case(**_SMALL, max_num_tokens=4096),
        case(**_SMALL, max_num_tokens=2048),
    ),
    "num-tokens-under-block": (case(max_num_tokens=16), case(max_num_tokens=32)),
    "num-tokens-under-prompt-unfused": (
        case(**_OFF, max_num_tokens=512),
        case(**_OFF, max_num_tokens=1024),
    ),
    "num-tokens-under-prompt": (
        case(max_num_tokens=512, use_paged_context_fmha=False),
        case(max_num_tokens=512),
    ),
    "num-tokens-under-draft": (case(**_DRAFT, max_num_tokens=40), case(**_DRAFT)),
    "num-tokens-very-large": (
        case(max_batch_size=64, max_num_tokens=32768),
        case(max_batch_size=64, max_num_tokens=16384),
    ),
    "num-tokens-under-batch": (
        case(max_batch_size=64, max_num_tokens=32),
        case(max_batch_size=32, max_num_tokens=32),
    ),
    "opt-tokens-over-max": (
        case(max_num_tokens=512, opt_num_tokens=1024),
        case(max_num_tokens=512, opt_num_tokens=512),
    ),
    "block-size-no-power-of-two": (case(tokens_per_block=48), case(tokens_per_block=64)),
    "block-size-without-xqa": (case(tokens_per_block=16), case(tokens_per_block=64)),
    "beam-width-over-limit": (case(max_beam_width=2000), case(max_beam_width=1024)),
    "sequence-over-positions": (case(max_seq_len=8193), case(max_seq_len=8192)),
    "dynamic-rope-over-positions": (
        case(model={"rotary_scaling": _DYNAMIC}, max_seq_len=8193),
        case(model={"rotary_scaling": _DYNAMIC}, max_seq_len=8192),
    ),
    "cache-under-sequence": (
        case(max_seq_len=4096, kv_cache_tokens=4095),
        case(max_seq_len=4096, kv_cache_tokens=4096),
    ),
    "cache-over-batch": (
        case(max_batch_size=2, max_seq_len=2048, kv_cache_tokens=9000),
        case(max_batch_size=2, max_seq_len=2048, kv_cache_tokens=4096),
    ),
    "workers-over-ranks": (case(workers=2), ranks(engine={"workers": 2}, tp_size=2)),
}

FUSIONS = {
    "reduce-fusion-one-rank": (
        case(reduce_fusion=True),
        ranks(engine={"reduce_fusion": True}, tp_size=2),
    ),
    "reduce-fusion-of-other-architectures": (
        ranks(_MIXTRAL, {"reduce_fusion": True}, tp_size=2),
        ranks(_MIXTRAL, tp_size=2),
    ),
    "reduce-fusion-drops-multiplier": (
        ranks({"residual_multiplier": 0.22}, {"reduce_fusion": True}, tp_size=2),
        ranks({"residual_multiplier": 0.22}, tp_size=2),
    ),
    "reduce-fusion-with-residual-mlp": (
        ranks({"residual_mlp": True}, {"reduce_fusion": True}, tp_size=2),
        ranks({"residual_mlp": True}, tp_size=2),
    ),
    "user-buffer-without-fp8": (
        ranks({}, {"reduce_fusion": True, "user_buffer": True}, tp_size=2),
        ranks(_FP8, {"reduce_fusion": True, "user_buffer": True}, tp_size=2),
    ),
    "user-buffer-nvfp4-gemm": (
        ranks(quantised("NVFP4"), {"reduce_fusion": True, "user_buffer": True}, tp_size=2),
        ranks(
            quantised("NVFP4"),
            {"reduce_fusion": True, "user_buffer": True, "gemm_plugin": "nvfp4"},
            tp_size=2,
        ),
    ),
    "norm-quant-fusion-elsewhere": (
        case(norm_quant_fusion=True),
        case(model=quantised("NVFP4"), norm_quant_fusion=True),
    ),
    "pp-reduce-scatter-elsewhere": (
        ranks({}, {"pp_reduce_scatter": True}, pp_size=2),
        ranks(_MIXTRAL, {"pp_reduce_scatter": True}, pp_size=2),
    ),
    "fp4-output-without-nvfp4": (
        case("sm100", fuse_fp4_quant=True),
        case("sm100", quantised("NVFP4"), fuse_fp4_quant=True),
    ),
}

PLUGINS = {
    "attention-plugin-dtype": (
        case(gpt_attention_plugin="float16"),
        case(gpt_attention_plugin="bfloat16"),
    ),
    "lora-plugin-dtype": (
        case(lora_plugin="float16", lora_target_modules=["attn_q"]),
        case(lora_plugin="auto", lora_target_modules=["attn_q"]),
    ),
    "gemm-plugin-dtype": (case(gemm_plugin="float16"), case(gemm_plugin="auto")),
    "gemm-plugin-nvfp4": (
        case("sm100", quantised("NVFP4"), gemm_plugin="auto"),
        case("sm100", quantised("NVFP4"), gemm_plugin="nvfp4"),
    ),
    "nccl-plugin-overwritten": (
        ranks({}, {"nccl_plugin": None}, tp_size=2),
        ranks({}, tp_size=2),
    ),
    "gemm-swiglu-without-fp8": (
        case(gemm_swiglu_plugin="fp8"),
        case(model=_FP8, gemm_swiglu_plugin="fp8"),
    ),
    "gemm-swiglu-activation": (
        case(model={**_FP8, "hidden_act": "gelu"}, gemm_swiglu_plugin="fp8"),
        case(model={**_FP8, "hidden_act": "gelu"}),
    ),
    "gemm-swiglu-bias": (
        case(model={**_FP8, "mlp_bias": True}, low_latency_gemm_swiglu_plugin="fp8"),
        case(model={**_FP8, "mlp_bias": True}),
    ),
    "unplugged-experts-grouped": (
        case(model=_GROUPED, moe_plugin=None),
        case(model=_GROUPED),
    ),
    "unplugged-experts-weight-only": (
        case(model={**_EXPERTS, **quantised("W4A16")}, moe_plugin=None),
        case(model={**_EXPERTS, **quantised("W4A16")}),
    ),
    "experts-fp8-rowwise": (
        case(model={**_EXPERTS, **quantised("FP8_PER_CHANNEL_PER_TOKEN")}),
        case(model={**_EXPERTS, **quantised("FP8")}),
    ),
    "managed-weights-without-plugin": (
        case(
            model=quantised("W8A16", disable_weight_only_quant_plugin=True),
            fast_build=True,
        ),
        case(model=quantised("W8A16", disable_weight_only_quant_plugin=True)),
    ),
}

ATTENTION = {
    "unfused-float32": (case(model={"dtype": "float32"}), GOOD),
    "unfused-relative-positions": (
        case(model={"position_embedding_type": "relative"}),
        case(model={"position_embedding_type": "relative"}, **_OFF),
    ),
    "unfused-cross-attention": (
        case(model={"architecture": "DecoderModel"}, kv_cache_type="continuous"),
        case(model={"architecture": "DecoderModel"}),
    ),
    "unfused-head-size": (
        case(model={"head_size": 112}),
        case(model={"head_size": 112}, **_OFF),
    ),
    "unfused-head-size-generated": (
        case("sm100", {"head_size": 96}),
        case("sm90", {"head_size": 96}),
    ),
    "unfused-soft-capping": (
        case(model={**_CAPPED, "head_size": 64}),
        case(model={**_CAPPED, "head_size": 64}, **_OFF),
    ),
    "unfused-alibi-generated": (case("sm100", _ALIBI), case("sm90", _ALIBI)),
    "unfused-padded-generated": (case("sm100", remove_input_padding=False), case("sm100")),
    "unfused-fp8-head-256": (
        case("sm120", {**_FP8, "head_size": 256}, use_fp8_context_fmha=True),
        case("sm120", {**_FP8, "head_size": 256}),
    ),
    "unfused-fp8-head-64": (
        case("sm89", {**_FP8, "head_size": 64}, use_fp8_context_fmha=True),
        case("sm89", {**_FP8, "head_size": 64}),
    ),
    "no-attention-plugin": (case(gpt_attention_plugin=None), GOOD),
    "head-size-72": (case(model={"head_size": 72}), GOOD),
    "head-size-of-generation": (case(model={"head_size": 16}), GOOD),
    "no-latent-attention": (case(model=_LATENT), GOOD),
    "rotary-dim-zero": (case(model={"rotary_embedding_dim": 0}), GOOD),
    "block-sparse-beyond-local": (
        case(model=_SPARSE),
        case(model=_SPARSE, max_input_len=512, max_seq_len=1024),
    ),
    "fp8-context-without-fp8": (case(use_fp8_context_fmha=True), GOOD),
    "paged-context-of-fp8-cache": (
        case(model=quantised("W8A16", "FP8")),
        case(model=quantised("W8A16", "FP8"), use_paged_context_fmha=False),
    ),
    "fp8-context-before-ada": (
        case("sm80", _FP8, use_fp8_context_fmha=True),
        case("sm80", _FP8),
    ),
    "fp8-paged-context-needs-fp8-cache": (
        case(model=quantised("FP8"), use_fp8_context_fmha=True),
        case(model=quantised("FP8")),
    ),
    "fp8-cache-needs-fp8-context": (case(model=_FP8), case(model=_FP8, use_fp8_context_fmha=True)),
    "paged-context-of-int8-cache": (
        case(model=quantised(None, "INT8")),
        case(model=quantised(None, "INT8"), use_paged_context_fmha=False),
    ),
    "fp8-context-float32": (
        case(model={**_FP8, "dtype": "float32"}, use_fp8_context_fmha=True),
        case(model=_FP8, use_fp8_context_fmha=True),
    ),
    "fp8-context-target": (
        case("sm110", _FP8, use_fp8_context_fmha=True),
        case("sm100", _FP8, use_fp8_context_fmha=True),
    ),
    "fp4-cache-needs-fp8-context": (
        case("sm100", quantised("NVFP4", "NVFP4")),
        case("sm100", quantised("NVFP4", "NVFP4"), use_fp8_context_fmha=True),
    ),
}

GPUS = {
    "one-target": (case(targets=["sm80", "sm90"]), GOOD),
    "volta-dropped": (case("sm70"), case("sm80")),
    "orin-not-built-for": (case("sm87"), case("sm86")),
    "target-unknown": (case("sm110"), case("sm100")),
    "turing-no-fused-kernels": (
        case("sm75", {"dtype": "float16"}),
        case("sm75", {"dtype": "float16"}, **_OFF),
    ),
    "turing-deprecated": (case("sm75", {"dtype": "float16"}), case("sm80")),
    "bfloat16-before-ampere": (case("sm75"), case("sm75", {"dtype": "float16"})),
    "fp8-before-ada": (case("sm86", quantised("FP8")), case("sm89", quantised("FP8"))),
    "fp8-cache-before-ada": (
        case("sm80", quantised(None, "FP8")),
        case("sm89", quantised(None, "FP8")),
    ),
    "nvfp4-before-blackwell": (case("sm90", quantised("NVFP4")), case("sm100", quantised("NVFP4"))),
    "int-weights-on-blackwell": (
        case("sm100", quantised("W4A16")),
        case("sm120", quantised("W4A16")),
    ),
    "int8-cache-on-blackwell": (
        case("sm103", quantised(None, "INT8")),
        case("sm103", quantised(None, "FP8")),
    ),
    "smoothquant-on-blackwell": (
        case("sm100", quantised("W8A8_SQ_PER_CHANNEL")),
        case("sm100", quantised("FP8")),
    ),
    "quantization-of-pytorch": (
        case("sm100", quantised("W4A8_MXFP4_FP8")),
        case("sm100", quantised("NVFP4")),
    ),
    "gemm-swiglu-plugin-on-sm100": (
        case("sm100", _FP8, gemm_swiglu_plugin="fp8"),
        case("sm90", _FP8, gemm_swiglu_plugin="fp8"),
    ),
    "fp8-rowwise-gemm-plugin-on-sm100": (
        case("sm100", fp8_rowwise_gemm_plugin="auto"),
        case("sm100"),
    ),
    "low-latency-gemm-plugin-on-sm100": (
        case("sm100", _FP8, low_latency_gemm_plugin="fp8"),
        case("sm90", _FP8, low_latency_gemm_plugin="fp8"),
    ),
    "low-latency-gemm-swiglu-plugin-on-sm100": (
        case("sm100", _FP8, low_latency_gemm_swiglu_plugin="fp8"),
        case("sm90", _FP8, low_latency_gemm_swiglu_plugin="fp8"),
    ),
    "bert-context-fmha-fp32-acc-on-sm100": (
        case("sm100", bert_context_fmha_fp32_acc=True),
        case("sm100"),
    ),
    "gemm-swiglu-target": (
        case("sm89", _FP8, gemm_swiglu_plugin="fp8"),
        case("sm90", _FP8, gemm_swiglu_plugin="fp8"),
    ),
    "fp4-output-target": (
        case("sm90", quantised("NVFP4"), fuse_fp4_quant=True),
        case("sm100", quantised("NVFP4"), fuse_fp4_quant=True),
    ),
    "unplugged-experts-on-blackwell": (
        case("sm120", _EXPERTS, moe_plugin=None),
        case("sm120", _EXPERTS),
    ),
}

MODELS = {
    "architecture-unknown": (case(model={"architecture": "DeepseekV3ForCausalLM"}), GOOD),
    "no-pipeline": (ranks(_MPT, pp_size=2), ranks(_MPT, tp_size=2)),
    "dynamic-rope-without-alpha": (
        case(model={"rotary_scaling": {"type": "dynamic", "factor": 2.0}}),
        case(model={"rotary_scaling": _DYNAMIC}),
    ),
    "rope-type-unknown": (case(model={"rotary_scaling": {"rope_type": "spiral"}}), GOOD),
    "yarn-attention-factor": (_yarn(attention_factor=1.2), _yarn(attention_factor=None)),
    "yarn-not-truncated": (_yarn(truncate=False), _yarn(truncate=True)),
    "context-parallel-experts": (
        ranks(_EXPERTS, tp_size=2, cp_size=2, moe_ep_size=2),
        ranks(_EXPERTS, tp_size=2, cp_size=2),
    ),
    "context-parallel-beams": (
        ranks({}, {"max_beam_width": 2}, cp_size=2),
        ranks({}, cp_size=2),
    ),
    "context-parallel-padded": (
        ranks({}, {"remove_input_padding": False}, cp_size=2),
        ranks({}, cp_size=2),
    ),
}

ADAPTERS = {
    "lora-modules-without-plugin": (case(lora_target_modules=["attn_qkv"]), case(**_LORA)),
    "lora-plugin-without-modules": (case(lora_plugin="auto"), case(**_LORA)),
    "lora-modules-unknown": (
        case(lora_plugin="auto", lora_target_modules=["attn_qvk"]),
        case(**_LORA),
    ),
    "lora-from-nemo": (case(**_LORA, lora_ckpt_source="nemo"), case(**_LORA)),
    "lora-with-gemm-allreduce": (
        case(**_LORA, gemm_allreduce_plugin="bfloat16"),
        case(**_LORA),
    ),
    "lora-with-gemm-swiglu": (
        case(lora_plugin="auto", lora_target_modules=["mlp_gate"], gemm_swiglu_plugin="fp8"),
        case(**_LORA, gemm_swiglu_plugin="fp8"),
    ),
    "lora-of-other-classes": (case(model=_MPT, **_LORA), case(**_LORA)),
    "dora-with-experts": (
        case(model=_MIXTRAL, **_LORA, dora_plugin=True),
        case(model=_MIXTRAL, **_LORA),
    ),
    "draft-with-beams": (case(**_DRAFT, max_beam_width=4), case(**_DRAFT)),
    "draft-without-mode": (case(max_draft_len=5), case(**_DRAFT)),
    "mode-without-draft": (
        case(speculative_decoding_mode="draft_tokens_external"),
        case(**_DRAFT),
    ),
    "eagle-batch": (case(**_EAGLE, max_batch_size=513), case(**_EAGLE, max_batch_size=512)),
    "eagle-draft": (
        case(**{**_EAGLE, "max_draft_len": 257}),
        case(**{**_EAGLE, "max_draft_len": 256}),
    ),
    "eagle-paged-context": (case(**_EAGLE, use_paged_context_fmha=False), case(**_EAGLE)),
    "mode-of-another-class": (
        case(**_EAGLE),
        case(model={"architecture": "EagleForCausalLM"}, **_EAGLE),
    ),
    "lookahead-of-other-classes": (
        case(model=_MPT, speculative_decoding_mode="lookahead_decoding", max_draft_len=9),
        case(speculative_decoding_mode="lookahead_decoding", max_draft_len=9),
    ),
    "draft-with-context-parallelism": (ranks({}, _DRAFT, cp_size=2), ranks({}, _DRAFT)),
    "prompt-table-of-other-classes": (
        case(model=_MPT, max_prompt_embedding_table_size=8),
        case(max_prompt_embedding_table_size=8),
    ),
}

IDLE = {
    "paged-state-idle": (case(paged_state=False), GOOD),
    "mamba-plugin-idle": (case(mamba_conv1d_plugin="bfloat16"), GOOD),
    "bert-plugin-idle": (case(bert_attention_plugin=None), GOOD),
    "encoder-input-idle": (case(max_encoder_input_len=512), GOOD),
    "generation-logits-idle": (case(gather_generation_logits=True), GOOD),
    "paged-context-without-paged-cache": (
        case(kv_cache_type="disabled"),
        case(kv_cache_type="disabled", use_paged_context_fmha=False),
    ),
    "cache-disabled": (case(kv_cache_type="disabled"), GOOD),
    "lora-rank-idle": (case(max_lora_rank=8), case(**_LORA, max_lora_rank=8)),
    "lora-source-idle": (case(lora_ckpt_source="nemo"), GOOD),
    "dora-idle": (case(dora_plugin=True), case(dora_plugin=True, **_LORA)),
    "weight-streaming-with-gemm-plugin": (
        case(weight_streaming=True, gemm_plugin="auto"),
        case(weight_streaming=True),
    ),
    "gemm-plugin-fp8-idle": (case(gemm_plugin="fp8"), case(model=_FP8, gemm_plugin="fp8")),
    "gemm-plugin-nvfp4-idle": (
        case(gemm_plugin="nvfp4"),
        case("sm100", quantised("NVFP4"), gemm_plugin="nvfp4"),
    ),
    "low-latency-gemm-idle": (
        case(low_latency_gemm_plugin="fp8"),
        case(model=_FP8, low_latency_gemm_plugin="fp8"),
    ),
    "fp8-rowwise-idle": (case(fp8_rowwise_gemm_plugin="auto"), GOOD),
    "moe-plugin-idle": (case(moe_plugin=None), case(model=_MIXTRAL, moe_plugin=None)),
    "gemm-allreduce-one-rank": (
        case(gemm_allreduce_plugin="bfloat16"),
        ranks({}, {"gemm_allreduce_plugin": "bfloat16"}, tp_size=2),
    ),
    "nccl-plugin-idle": (case(nccl_plugin="bfloat16"), GOOD),
    "pp-reduce-scatter-idle": (
        case(model=_MIXTRAL, pp_reduce_scatter=True),
        ranks(_MIXTRAL, {"pp_reduce_scatter": True}, pp_size=2),
    ),
}

EXAMPLES: dict[str, tuple[Case, Case]] = {
    **OPTIONS,
    **LIMITS,
    **FUSIONS,
    **PLUGINS,
    **ATTENTION,
    **GPUS,
    **MODELS,
    **ADAPTERS,
    **IDLE,
}
