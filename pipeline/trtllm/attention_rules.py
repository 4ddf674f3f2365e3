"""Rules of attention: what runs unfused, and what no kernel computes at all.

The plugin decides it when the engine is built, and again when it is loaded; it says so in a
warning, while the engine's config.json keeps `context_fmha` on.
"""

from __future__ import annotations

from pipeline.trtllm.attention_kernels import (
    FMHA_HEAD_SIZES,
    FMHA_TARGETS,
    GENERATED,
    GENERATED_HEAD_SIZES,
    MMHA_HEAD_SIZES,
    SOFTCAP_HEAD_SIZES,
)
from pipeline.trtllm.plugin_rules import FP8_ALGOS
from pipeline.trtllm.rules import Rule

_OP = "TensorRT-LLM `attentionOp.cpp`, AttentionOp::initialize"
_DISPATCHER = "TensorRT-LLM `fmhaDispatcher.cpp`"
_SETUP = "TensorRT-LLM `cpp/kernels/fmha_v2/setup.py`"
PLUGGED = "gpt_attention_plugin != None"
_FUSED = f"context_fmha and {PLUGGED}"
_UNFUSED = "`engine.attention: {{context_fmha: false, require_fused: false}}`"
_ASK_UNFUSED = f"ask for unfused attention by {_UNFUSED} and `use_paged_context_fmha: false`"
_FMHA_KEY = "engine.attention.context_fmha"
_SIXTEEN = "model.dtype in ('float16', 'bfloat16')"
FP8_FUSED = f"{_FUSED} and use_fp8_context_fmha and quant_algo in {FP8_ALGOS}"

FALLBACK_RULES = (
    Rule(
        name="unfused-float32",
        effect="unfused",
        when=f"{_FUSED} and model.dtype == 'float32'",
        keys=("checkpoint.dtype", _FMHA_KEY),
        says="the checkpoint is float32, for which no fused kernel exists",
        fix=f"set `checkpoint.dtype` to `bfloat16` or `float16`, or {_ASK_UNFUSED}",
        source=_OP,
        sure="1.2",
    ),
    Rule(
        name="unfused-relative-positions",
        effect="unfused",
        when=f"{_FUSED} and model.position_embedding_type == 'relative'",
        keys=(_FMHA_KEY,),
        says="the model has relative positions, for which no fused kernel exists",
        fix=_ASK_UNFUSED,
        source=_OP,
        sure="1.2",
    ),
    Rule(
        name="unfused-cross-attention",
        effect="unfused",
        when=f"{_FUSED} and model.architecture == 'DecoderModel' and kv_cache_type == 'continuous'",
        keys=("engine.kv_cache_type", _FMHA_KEY),
        says="the model attends to an encoder, and `engine.kv_cache_type` is `continuous`: such "
        "attention is not fused",
        fix="remove `kv_cache_type`, for `paged`",
        source=_OP,
        sure="1.2",
    ),
    Rule(
        name="unfused-head-size",
        effect="unfused",
        when=f"{_FUSED} and {_SIXTEEN} and sm in {FMHA_TARGETS} and sm not in {GENERATED}"
        f" and model.head_size in {MMHA_HEAD_SIZES} and model.head_size not in {FMHA_HEAD_SIZES}",
        keys=(_FMHA_KEY,),
        says="no fused kernel exists for head size {model[head_size]} on {target}, only for "
        + ", ".join(map(str, FMHA_HEAD_SIZES)),
        fix=_ASK_UNFUSED,
        source=_SETUP,
        sure="1.3rc3",
    ),
    Rule(
        name="unfused-head-size-generated",
        effect="unfused",
        when=f"{_FUSED} and {_SIXTEEN} and sm in {GENERATED}"
        f" and model.head_size in {MMHA_HEAD_SIZES}"
        f" and model.head_size not in {GENERATED_HEAD_SIZES}",
        keys=(_FMHA_KEY,),
        says="no fused kernel exists for head size {model[head_size]} on {target}, only for "
        "powers of two, and 72 and 80",
        fix=f"build for another GPU, or {_ASK_UNFUSED}",
        source=_DISPATCHER,
        sure="1.3rc3",
    ),
    Rule(
        name="unfused-soft-capping",
        effect="unfused",
        when=f"{_FUSED} and {_SIXTEEN} and sm in {FMHA_TARGETS} and sm not in {GENERATED}"
        " and 'attn_logit_softcapping' in model and model.attn_logit_softcapping != None"
        f" and model.head_size in {FMHA_HEAD_SIZES}"
        f" and model.head_size not in {SOFTCAP_HEAD_SIZES}",
        keys=(_FMHA_KEY,),
        says="the model caps its attention scores softly, for which fused kernels exist with head "
        "sizes 128 and 256, not {model[head_size]}",
        fix=_ASK_UNFUSED,
        source=_SETUP,
        sure="1.3rc3",
    ),
    Rule(
        name="unfused-alibi-generated",
        effect="unfused",
        when=f"{_FUSED} and sm in {GENERATED}"
        " and model.position_embedding_type in ('alibi', 'alibi_with_scale')",
        keys=("engine.targets", _FMHA_KEY),
        says="the model has ALiBi positions, for which {target} has no fused kernel",
        fix=f"build for another GPU, or {_ASK_UNFUSED}",
        source=_DISPATCHER,
        sure="1.2",
    ),
    Rule(
        name="unfused-padded-generated",
        effect="unfused",
        when=f"{_FUSED} and sm in {GENERATED} and not remove_input_padding",
        keys=("engine.remove_input_padding", "engine.targets"),
        says="`engine.remove_input_padding` is false: {target} has fused kernels for packed input "
        "alone",
        fix="remove `remove_input_padding: false`",
        source=_DISPATCHER,
        sure="1.2",
    ),
    Rule(
        name="unfused-fp8-head-256",
        effect="unfused",
        when=f"{FP8_FUSED} and sm in (120, 121) and model.head_size == 256",
        keys=("engine.use_fp8_context_fmha", "engine.targets"),
        says="FP8 context attention with head size 256 falls back to unfused kernels on {target}",
        fix="remove `use_fp8_context_fmha`",
        source="NVIDIA/TensorRT-LLM issue 17911",
        sure="reported",
    ),
    Rule(
        name="unfused-fp8-head-64",
        effect="unfused",
        when=f"{FP8_FUSED} and sm in (89, 120) and model.head_size == 64",
        keys=("engine.use_fp8_context_fmha", "engine.targets"),
        says="FP8 context attention with head size 64 falls back to unfused kernels on {target}",
        fix="remove `use_fp8_context_fmha`",
        source="NVIDIA/TensorRT-LLM issue 3347",
        sure="reported",
    ),
)

ABORT_RULES = (
    Rule(
        name="no-attention-plugin",
        effect="refused",
        when="gpt_attention_plugin == None",
        keys=("engine.gpt_attention_plugin",),
        says="`engine.gpt_attention_plugin` is null, but packed input, the paged KV cache and "
        "fused attention are all the plugin's",
        fix="remove `gpt_attention_plugin: null`",
        source="TensorRT-LLM `layers/attention.py`, AttentionParams.is_valid, Attention.forward",
        sure="1.3rc3",
    ),
    Rule(
        name="head-size-72",
        effect="refused",
        when=f"{PLUGGED} and model.head_size == 72",
        keys=("engine.backend",),
        says="the head size is 72, for which the generation phase has no kernel",
        fix="use the backend `onnxruntime`, or `tensorrt`",
        source=_OP,
        sure="1.3rc3",
    ),
    Rule(
        name="head-size-of-generation",
        effect="refused",
        when=f"{PLUGGED} and model_class != 'DeepseekV2ForCausalLM' and model.head_size != 72"
        f" and model.head_size not in {MMHA_HEAD_SIZES}",
        keys=("engine.backend",),
        says="the head size is {model[head_size]}, for which the generation phase has no kernel, "
        "only for " + ", ".join(map(str, MMHA_HEAD_SIZES)),
        fix="use the backend `onnxruntime`, or `tensorrt`",
        source="TensorRT-LLM `decoderMaskedMultiheadAttention.cu`",
        sure="1.3rc3",
    ),
    Rule(
        name="no-latent-attention",
        effect="refused",
        when="model_class == 'DeepseekV2ForCausalLM'",
        keys=("engine.backend",),
        says="the model attends to a compressed cache (MLA), which the attention plugin no longer "
        "computes",
        fix="use the PyTorch backend of TensorRT-LLM 1.3 and later; `trtllm-pack convert` still "
        "writes the checkpoint",
        source="TensorRT-LLM `gptAttentionPlugin.cpp`",
        sure="1.3rc3",
    ),
    Rule(
        name="rotary-dim-zero",
        effect="refused",
        when=f"{PLUGGED} and model.rotary_embedding_dim == 0"
        " and model.position_embedding_type in ('rope_gptj', 'rope_gpt_neox', 'long_rope')",
        keys=("engine.backend",),
        says="the model has rotary positions, but none of a head's values is rotated",
        fix="look at `rotary_pct` and `head_size` of the checkpoint",
        source=_OP,
        sure="1.3rc3",
    ),
    Rule(
        name="block-sparse-beyond-local",
        effect="refused",
        when=f"{_FUSED} and 'blocksparse_block_size' in model"
        " and max_seq_len > model.blocksparse_block_size * model.blocksparse_num_local_blocks",
        keys=("engine.max_seq_len", _FMHA_KEY),
        says="the model attends to blocks sparsely, which fused context attention does not: "
        "beyond the local blocks its text would be wrong",
        fix=f"set `max_seq_len` to {{model[blocksparse_block_size]}} times "
        f"{{model[blocksparse_num_local_blocks]}} or less, or {_ASK_UNFUSED}",
        source="TensorRT-LLM `fused_multihead_attention_common.h`, setAttentionMaskType",
        sure="1.3rc3",
    ),
)

ATTENTION_RULES = (*FALLBACK_RULES, *ABORT_RULES)
