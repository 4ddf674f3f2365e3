"""Options of TensorRT-LLM's BuildConfig and of `trtllm-build`, by the names of its fields.

Names, values and defaults are checked against `pipeline/trtllm/facts.json` by a test; where a
default differs from TensorRT-LLM's, the test says why. What TensorRT-LLM decides itself, or this
project for it, is not here: `pipeline/trtllm/left_out.py` says so key by key.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.recipe.plugin_options import PluginOptions
from pipeline.recipe.section import Count, PositiveInt

DraftMode = Literal[
    "draft_tokens_external",
    "lookahead_decoding",
    "medusa",
    "explicit_draft_tokens",
    "eagle",
]


class BuildOptions(PluginOptions):
    """How TensorRT-LLM builds: limits, cache, logits, adapters, build control."""

    max_beam_width: PositiveInt = Field(1, description="Largest number of beams")
    max_num_tokens: PositiveInt | None = Field(
        None,
        description="Most packed tokens of one step. Default: a whole prompt beside one token of "
        "every sequence, `max_input_len + max_batch_size * max_beam_width`, rounded up to 64",
    )
    opt_num_tokens: PositiveInt | None = Field(
        None,
        description="Packed tokens for which kernels are chosen. Default: "
        "`max_batch_size * max_beam_width`",
    )
    max_prompt_embedding_table_size: Count = Field(
        0, description="Rows of a prompt-embedding table (prompt tuning, multimodal input)"
    )
    max_encoder_input_len: PositiveInt = Field(
        1024, description="Longest input of an encoder; decoders do not read it"
    )
    kv_cache_type: Literal["paged", "continuous", "disabled"] = Field(
        "paged", description="How the KV cache lies in memory"
    )
    kv_cache_tokens: PositiveInt | None = Field(
        None,
        description="Tokens for which the memory plan must find room in the KV cache. Default: all "
        "sequences of a batch at full length. A paged cache needs fewer where not all are long at "
        "once: what finds no room waits",
    )
    logits_dtype: Literal["float16", "float32"] | None = Field(
        None, description="Type of the logits. Default: the checkpoint's, `float32`"
    )
    gather_context_logits: bool = Field(False, description="Keep the logits of prompt tokens")
    gather_generation_logits: bool = Field(False, description="Keep the logits of generated tokens")
    speculative_decoding_mode: DraftMode | None = Field(
        None, description="Speculative decoding that the engine takes part in"
    )
    max_draft_len: Count = Field(0, description="Most draft tokens of speculative decoding")
    lora_target_modules: tuple[str, ...] = Field(
        (), strict=False, description="Modules that LoRA adapters change; needs `lora_plugin`"
    )
    lora_ckpt_source: Literal["hf", "nemo"] = Field("hf", description="Form of LoRA adapters")
    max_lora_rank: PositiveInt = Field(64, description="Largest rank of a LoRA adapter")
    use_strip_plan: bool = Field(
        False, description="Leave the weights out of the engine; it is refitted before use"
    )
    weight_sparsity: bool = Field(False, description="Try kernels for 2:4 sparse weights")
    weight_streaming: bool = Field(
        False, description="Keep weights in host memory and stream them to the GPU"
    )
    fast_build: bool = Field(
        False, description="Weights beside the engine file instead of in it; builds faster"
    )
    profiling_verbosity: Literal["layer_names_only", "detailed", "none"] = Field(
        "detailed", description="What the engine says about its layers when it is inspected"
    )
    enable_debug_output: bool = Field(False, description="Give out intermediate tensors")
    monitor_memory: bool = Field(False, description="Write memory peaks to the build log")
    workers: PositiveInt = Field(
        1, description="Ranks that are built at the same time, each on its own GPU"
    )
    use_timing_cache: bool = Field(
        True,
        description="Begin with the kernel timings of earlier builds for the same GPU and versions",
    )
    build_timeout_s: PositiveInt = Field(
        14400, description="Seconds after which a build is stopped"
    )
