"""Rules of what an engine takes part in beside plain generation: LoRA, drafts, prompt tables."""

from __future__ import annotations

from pipeline.trtllm.rules import Rule

WITHOUT_LORA = (
    "BaichuanForCausalLM",
    "BloomForCausalLM",
    "ChatGLMForCausalLM",
    "CohereForCausalLM",
    "DbrxForCausalLM",
    "DeciLMForCausalLM",
    "DeepseekForCausalLM",
    "DeepseekV2ForCausalLM",
    "FalconForCausalLM",
    "GPTJForCausalLM",
    "GPTNeoXForCausalLM",
    "MPTForCausalLM",
    "OPTForCausalLM",
)
"""Model classes without `use_lora` (TensorRT-LLM 1.3.0rc3 `models/*/model.py`)."""

WITH_DRAFT_MASKS = (
    "LLaMAForCausalLM",
    "QWenForCausalLM",
    "GPTForCausalLM",
    "CohereForCausalLM",
    "DeepseekForCausalLM",
    "DeciLMForCausalLM",
)
"""Model classes that take `spec_decoding_params` (same source)."""

WITHOUT_PROMPT_TABLE = (
    "ChatGLMForCausalLM",
    "CohereForCausalLM",
    "DbrxForCausalLM",
    "FalconForCausalLM",
    "GPTJForCausalLM",
    "GPTNeoXForCausalLM",
    "MPTForCausalLM",
)
"""Model classes that take no prompt-embedding table (same source)."""

EAGLE_BATCH, EAGLE_DRAFT = 512, 256

_BUILDER = "TensorRT-LLM `builder.py`"
_LORA = "TensorRT-LLM `lora_manager.py`"
_MODELS = "TensorRT-LLM `models/*/model.py`"
_MODE = ("engine.speculative_decoding_mode",)

LORA_RULES = (
    Rule(
        name="lora-plugin-dtype",
        effect="refused",
        when="lora_plugin in ('float16', 'bfloat16', 'float32') and lora_plugin != model.dtype",
        keys=("engine.lora_plugin", "checkpoint.dtype"),
        says="`engine.lora_plugin` is `{lora_plugin}`, but the checkpoint is {model[dtype]}",
        fix="write `auto`, or set `checkpoint.dtype`",
        source="TensorRT-LLM `functional.py`, lora_plugin",
        sure="inferred",
    ),
    Rule(
        name="lora-modules-without-plugin",
        effect="changed",
        when="len(lora_target_modules) > 0 and lora_plugin == None",
        keys=("engine.lora_target_modules", "engine.lora_plugin"),
        says="`engine.lora_target_modules` is given, but `engine.lora_plugin` is null: "
        "TensorRT-LLM builds an engine without adapters",
        fix="add `lora_plugin: auto`, or remove `lora_target_modules`",
        source="TensorRT-LLM `commands/build.py`, build_model",
        sure="1.2",
    ),
    Rule(
        name="lora-plugin-without-modules",
        effect="refused",
        when="lora_plugin != None and len(lora_target_modules) == 0",
        keys=("engine.lora_plugin", "engine.lora_target_modules"),
        says="`engine.lora_plugin` is set, but `engine.lora_target_modules` is empty, and there is "
        "no adapter to take it from",
        fix="add for example `lora_target_modules: [attn_q, attn_k, attn_v]`",
        source=f"{_LORA}, load_hf_lora",
        sure="1.3rc3",
    ),
    Rule(
        name="lora-modules-unknown",
        effect="refused",
        when="len(unknown_lora_modules) > 0",
        keys=("engine.lora_target_modules",),
        says="`engine.lora_target_modules` has what TensorRT-LLM does not know: "
        "{unknown_lora_modules}",
        fix="`trtllm-pack explain lora_target_modules` lists the modules",
        source=f"{_LORA}, LORA_MODULE_IDS",
        sure="1.3rc3",
    ),
    Rule(
        name="lora-from-nemo",
        effect="refused",
        when="lora_plugin != None and lora_ckpt_source == 'nemo'",
        keys=("engine.lora_ckpt_source", "engine.lora_plugin"),
        says="`engine.lora_ckpt_source` is `nemo`, for which an adapter must be there when the "
        "engine is built; here adapters are given at run time",
        fix="remove `lora_ckpt_source`, for `hf`",
        source=f"{_LORA}, load_nemo_lora",
        sure="1.3rc3",
    ),
    Rule(
        name="lora-with-gemm-allreduce",
        effect="refused",
        when="lora_plugin != None and gemm_allreduce_plugin != None",
        keys=("engine.gemm_allreduce_plugin", "engine.lora_plugin"),
        says="`engine.gemm_allreduce_plugin` and `engine.lora_plugin` are set, which exclude each "
        "other",
        fix="remove one of them",
        source="TensorRT-LLM `layers/linear.py`, RowLinear",
        sure="1.3rc3",
    ),
    Rule(
        name="lora-with-gemm-swiglu",
        effect="refused",
        when="lora_plugin != None"
        " and (gemm_swiglu_plugin != None or low_latency_gemm_swiglu_plugin != None)"
        " and ('mlp_h_to_4h' in lora_target_modules or 'mlp_gate' in lora_target_modules)",
        keys=(
            "engine.lora_target_modules",
            "engine.gemm_swiglu_plugin",
            "engine.low_latency_gemm_swiglu_plugin",
        ),
        says="`engine.lora_target_modules` has `mlp_h_to_4h` or `mlp_gate`, which the plugin for "
        "matrix product and SwiGLU cannot adapt",
        fix="remove the plugin, or these modules",
        source="TensorRT-LLM `layers/mlp.py`, FusedGatedMLP",
        sure="1.3rc3",
    ),
    Rule(
        name="lora-of-other-classes",
        effect="refused",
        when=f"lora_plugin != None and model_class in {WITHOUT_LORA}",
        keys=("engine.lora_plugin",),
        says="`engine.lora_plugin` is set, but TensorRT-LLM's class `{model_class}` takes no "
        "adapters",
        fix="remove `lora_plugin` and `lora_target_modules`",
        source=f"{_MODELS}, use_lora",
        sure="1.3rc3",
    ),
    Rule(
        name="dora-with-experts",
        effect="refused",
        when="dora_plugin and lora_plugin != None and num_experts > 0",
        keys=("engine.dora_plugin",),
        says="`engine.dora_plugin` is true, but the model has {num_experts} experts, which DoRA "
        "does not reach",
        fix="remove `dora_plugin`",
        source=_LORA,
        sure="1.3rc3",
    ),
)

DRAFT_RULES = (
    Rule(
        name="draft-with-beams",
        effect="refused",
        when="max_draft_len > 0 and max_beam_width > 1",
        keys=("engine.max_beam_width", "engine.max_draft_len"),
        says="`engine.max_beam_width` is {max_beam_width}, but draft tokens (`max_draft_len` "
        "{max_draft_len}) are not there for beam search",
        fix="remove `max_beam_width`, or `max_draft_len` and `speculative_decoding_mode`",
        source="TensorRT-LLM `trtGptModelInflightBatching.cpp`",
        sure="1.3rc3",
    ),
    Rule(
        name="draft-without-mode",
        effect="refused",
        when="max_draft_len > 0 and speculative_decoding_mode == None",
        keys=("engine.max_draft_len", "engine.speculative_decoding_mode"),
        says="`engine.max_draft_len` is {max_draft_len}, but there is no "
        "`engine.speculative_decoding_mode` that drafts",
        fix="add `speculative_decoding_mode: draft_tokens_external`, or remove `max_draft_len`",
        source=_BUILDER,
        sure="inferred",
    ),
    Rule(
        name="mode-without-draft",
        effect="refused",
        when="max_draft_len == 0"
        " and speculative_decoding_mode in ('draft_tokens_external', 'lookahead_decoding')",
        keys=("engine.speculative_decoding_mode", "engine.max_draft_len"),
        says="`engine.speculative_decoding_mode` is `{speculative_decoding_mode}`, but "
        "`engine.max_draft_len` is 0: there is no room for a draft",
        fix="add `max_draft_len`, the most draft tokens of a step",
        source="TensorRT-LLM `docs/source/legacy/advanced/speculative-decoding.md`",
        sure="inferred",
    ),
    Rule(
        name="eagle-batch",
        effect="refused",
        when=f"speculative_decoding_mode == 'eagle' and max_batch_size > {EAGLE_BATCH}",
        keys=("engine.max_batch_size", *_MODE),
        says="`engine.max_batch_size` is {max_batch_size}, but with EAGLE it is at most "
        f"{EAGLE_BATCH}",
        fix=f"set it to {EAGLE_BATCH} or less",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="eagle-draft",
        effect="refused",
        when=f"speculative_decoding_mode == 'eagle' and max_draft_len > {EAGLE_DRAFT}",
        keys=("engine.max_draft_len", *_MODE),
        says="`engine.max_draft_len` is {max_draft_len}, but with EAGLE it is at most "
        f"{EAGLE_DRAFT}",
        fix=f"set it to {EAGLE_DRAFT} or less",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="eagle-paged-context",
        effect="changed",
        when="speculative_decoding_mode == 'eagle' and not use_paged_context_fmha",
        keys=("engine.use_paged_context_fmha", *_MODE),
        says="`engine.use_paged_context_fmha` is false, but with EAGLE TensorRT-LLM turns it on",
        fix="remove `use_paged_context_fmha: false`",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="mode-of-another-class",
        effect="refused",
        when="(speculative_decoding_mode == 'eagle' and model.architecture != 'EagleForCausalLM')"
        " or (speculative_decoding_mode == 'medusa'"
        " and model.architecture not in ('MedusaForCausalLM', 'MedusaLlamaForCausalLM'))"
        " or (speculative_decoding_mode == 'explicit_draft_tokens'"
        " and model.architecture not in ('ReDrafterForLLaMALM', 'ReDrafterForQWenLM'))",
        keys=_MODE,
        says="`engine.speculative_decoding_mode` is `{speculative_decoding_mode}`, but the "
        "checkpoint is of `{model[architecture]}`, which has no heads that draft",
        fix="use `draft_tokens_external` or `lookahead_decoding`, or remove it",
        source=f"{_BUILDER}; `models/eagle`, `models/medusa`, `models/redrafter`",
        sure="1.3rc3",
    ),
    Rule(
        name="lookahead-of-other-classes",
        effect="refused",
        when="speculative_decoding_mode == 'lookahead_decoding'"
        f" and model_class not in {WITH_DRAFT_MASKS}",
        keys=_MODE,
        says="`engine.speculative_decoding_mode` is `lookahead_decoding`, but TensorRT-LLM's class "
        "`{model_class}` does not take the masks of a draft",
        fix="use `draft_tokens_external`, or remove it",
        source=f"{_MODELS}, forward",
        sure="1.3rc3",
    ),
    Rule(
        name="draft-with-context-parallelism",
        effect="refused",
        when="max_draft_len > 0 and cp_size > 1",
        keys=("engine.max_draft_len", "checkpoint.cp_size"),
        says="`engine.max_draft_len` is {max_draft_len}, but `checkpoint.cp_size` is {cp_size}: "
        "context parallelism has no speculative decoding",
        fix="set `checkpoint.cp_size: 1`, or remove `max_draft_len`",
        source="TensorRT-LLM `gptAttentionPlugin.cpp`",
        sure="1.3rc3",
    ),
    Rule(
        name="prompt-table-of-other-classes",
        effect="refused",
        when=f"max_prompt_embedding_table_size > 0 and model_class in {WITHOUT_PROMPT_TABLE}",
        keys=("engine.max_prompt_embedding_table_size",),
        says="`engine.max_prompt_embedding_table_size` is {max_prompt_embedding_table_size}, but "
        "TensorRT-LLM's class `{model_class}` takes no prompt-embedding table",
        fix="remove it",
        source=f"{_MODELS}, forward",
        sure="1.3rc3",
    ),
)
