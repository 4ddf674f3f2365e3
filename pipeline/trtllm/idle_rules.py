"""Options that do nothing where they are: told, never refused."""

from __future__ import annotations

from pipeline.trtllm.rules import Rule

_RECURRENT = "TensorRT-LLM `builder.py`, update_kv_cache_type"
_PLUGINS = "TensorRT-LLM `plugin/plugin.py`"
_BUILD = "TensorRT-LLM `commands/build.py`"

IDLE_RULES = (
    Rule(
        name="paged-state-idle",
        effect="ignored",
        when="not paged_state",
        keys=("engine.paged_state",),
        says="`engine.paged_state` is for recurrent models, of which there are none here",
        fix="remove it",
        source=_RECURRENT,
        sure="1.2",
    ),
    Rule(
        name="mamba-plugin-idle",
        effect="ignored",
        when="mamba_conv1d_plugin not in ('auto', 'int32')",
        keys=("engine.mamba_conv1d_plugin",),
        says="`engine.mamba_conv1d_plugin` is for Mamba, which is none of the models here",
        fix="remove it",
        source=_PLUGINS,
        sure="1.2",
    ),
    Rule(
        name="bert-plugin-idle",
        effect="ignored",
        when="bert_attention_plugin not in ('auto', 'int32')",
        keys=("engine.bert_attention_plugin",),
        says="`engine.bert_attention_plugin` is for encoders, of which there are none here",
        fix="remove it",
        source=_PLUGINS,
        sure="1.2",
    ),
    Rule(
        name="encoder-input-idle",
        effect="ignored",
        when="max_encoder_input_len != 1024",
        keys=("engine.max_encoder_input_len",),
        says="`engine.max_encoder_input_len` is for models with an encoder, of which there are "
        "none here",
        fix="remove it",
        source="TensorRT-LLM `builder.py`, build",
        sure="1.2",
    ),
    Rule(
        name="generation-logits-idle",
        effect="ignored",
        when="gather_generation_logits",
        keys=("engine.gather_generation_logits",),
        says="`engine.gather_generation_logits` is deprecated: logits of generated tokens are "
        "asked for at run time, whatever the build says",
        fix="remove it",
        source=_BUILD,
        sure="1.2",
    ),
    Rule(
        name="cache-disabled",
        effect="ignored",
        when="kv_cache_type == 'disabled'",
        keys=("engine.kv_cache_type",),
        says="`engine.kv_cache_type` is `disabled`: such an engine computes prompts, and can "
        "generate a single token",
        fix="remove `kv_cache_type`, for `paged`",
        source="TensorRT-LLM `gptAttentionPlugin.cpp`",
        sure="1.3rc3",
    ),
    Rule(
        name="lora-rank-idle",
        effect="ignored",
        when="lora_plugin == None and max_lora_rank != 64",
        keys=("engine.max_lora_rank", "engine.lora_plugin"),
        says="`engine.max_lora_rank` is {max_lora_rank}, but `engine.lora_plugin` is null",
        fix="remove it, or add `lora_plugin: auto`",
        source=_BUILD,
        sure="1.2",
    ),
    Rule(
        name="lora-source-idle",
        effect="ignored",
        when="lora_plugin == None and lora_ckpt_source != 'hf'",
        keys=("engine.lora_ckpt_source", "engine.lora_plugin"),
        says="`engine.lora_ckpt_source` is given, but `engine.lora_plugin` is null",
        fix="remove it",
        source=_BUILD,
        sure="1.2",
    ),
    Rule(
        name="moe-plugin-idle",
        effect="ignored",
        when="moe_plugin != 'auto' and num_experts == 0",
        keys=("engine.moe_plugin",),
        says="`engine.moe_plugin` is given, but the model has no experts",
        fix="remove it",
        source=_PLUGINS,
        sure="1.2",
    ),
    Rule(
        name="nccl-plugin-idle",
        effect="ignored",
        when="nccl_plugin not in ('auto', 'int32', None) and world_size == 1",
        keys=("engine.nccl_plugin",),
        says="`engine.nccl_plugin` is given, but there is one rank, which talks to nobody",
        fix="remove it",
        source="TensorRT-LLM `builder.py`, build",
        sure="1.2",
    ),
)
