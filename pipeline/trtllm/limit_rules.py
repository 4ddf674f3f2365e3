"""Rules of limits: against each other, and against what the model was made for."""

from __future__ import annotations

from pipeline.trtllm.rules import Rule

MAX_BEAM_WIDTH = 1024
LARGEST_USEFUL_NUM_TOKENS = 16384
BLOCK_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
XQA_BLOCK_SIZES = (32, 64, 128)

_COMMON = "TensorRT-LLM `_common.py`, check_max_num_tokens"
_BUILDER = "TensorRT-LLM `builder.py`"

LIMIT_RULES = (
    Rule(
        name="num-tokens-over-batch",
        effect="changed",
        when="remove_input_padding and max_num_tokens > max_batch_size * max_seq_len"
        " and not (context_fmha and max_num_tokens <= tokens_per_block)"
        " and not (speculative_decoding_mode != None"
        " and max_num_tokens <= max_batch_size * (max_draft_len + 1))",
        keys=("engine.max_num_tokens", "engine.max_batch_size", "engine.max_seq_len"),
        says="`engine.max_num_tokens` is {max_num_tokens}, more than `max_batch_size` "
        "{max_batch_size} times `max_seq_len` {max_seq_len}: TensorRT-LLM lowers it to that",
        fix="remove `max_num_tokens`, or lower it",
        source=_COMMON,
        sure="1.2",
    ),
    Rule(
        name="num-tokens-under-block",
        effect="changed",
        when="remove_input_padding and context_fmha and max_num_tokens < tokens_per_block",
        keys=("engine.max_num_tokens", "engine.tokens_per_block"),
        says="`engine.max_num_tokens` is {max_num_tokens}, less than `engine.tokens_per_block` "
        "{tokens_per_block}: TensorRT-LLM raises it to that",
        fix="remove `max_num_tokens`, or set it to {tokens_per_block} or more",
        source=_COMMON,
        sure="1.2",
    ),
    Rule(
        name="num-tokens-under-prompt-unfused",
        effect="changed",
        when="remove_input_padding and not context_fmha and max_num_tokens < max_input_len",
        keys=("engine.max_num_tokens", "engine.max_input_len"),
        says="`engine.max_num_tokens` is {max_num_tokens}, less than `engine.max_input_len` "
        "{max_input_len}: without fused attention TensorRT-LLM raises it to that",
        fix="remove `max_num_tokens`, or set it to {max_input_len} or more",
        source=_COMMON,
        sure="1.2",
    ),
    Rule(
        name="num-tokens-under-prompt",
        effect="refused",
        when="remove_input_padding and context_fmha and not use_paged_context_fmha"
        " and max_num_tokens < max_input_len",
        keys=(
            "engine.max_num_tokens",
            "engine.max_input_len",
            "engine.use_paged_context_fmha",
        ),
        says="`engine.max_num_tokens` is {max_num_tokens}, less than `engine.max_input_len` "
        "{max_input_len}: such a prompt is computed in chunks, for which "
        "`engine.use_paged_context_fmha` must be true",
        fix="raise `max_num_tokens` to {max_input_len}, or remove `use_paged_context_fmha: false`",
        source="TensorRT-LLM `trtGptModelInflightBatching.cpp`",
        sure="1.3rc3",
    ),
    Rule(
        name="num-tokens-under-draft",
        effect="changed",
        when="speculative_decoding_mode != None"
        " and max_num_tokens < max_batch_size * (max_draft_len + 1)",
        keys=("engine.max_num_tokens", "engine.max_draft_len", "engine.max_batch_size"),
        says="`engine.max_num_tokens` is {max_num_tokens}, less than `max_batch_size` "
        "{max_batch_size} times one token and {max_draft_len} of the draft: TensorRT-LLM raises it",
        fix="remove `max_num_tokens`, or raise it",
        source=_BUILDER,
        sure="1.2",
    ),
    Rule(
        name="num-tokens-very-large",
        effect="ignored",
        when=f"max_num_tokens > {LARGEST_USEFUL_NUM_TOKENS}",
        keys=("engine.max_num_tokens",),
        says="`engine.max_num_tokens` is {max_num_tokens}: above "
        f"{LARGEST_USEFUL_NUM_TOKENS} nothing gets faster, and tensors may grow too large for "
        "TensorRT",
        fix=f"set it to {LARGEST_USEFUL_NUM_TOKENS} or less",
        source=_COMMON,
        sure="1.2",
    ),
    Rule(
        name="num-tokens-under-batch",
        effect="ignored",
        when="remove_input_padding and max_batch_size * max_beam_width > max_num_tokens",
        keys=("engine.max_num_tokens", "engine.max_batch_size", "engine.max_beam_width"),
        says="`engine.max_num_tokens` is {max_num_tokens}: a full batch, `max_batch_size` "
        "{max_batch_size} times `max_beam_width` {max_beam_width}, never takes a step together",
        fix="raise `max_num_tokens`, or lower `max_batch_size`",
        source=_COMMON,
        sure="inferred",
    ),
    Rule(
        name="opt-tokens-over-max",
        effect="changed",
        when="remove_input_padding and opt_num_tokens != None and opt_num_tokens > max_num_tokens",
        keys=("engine.opt_num_tokens", "engine.max_num_tokens"),
        says="`engine.opt_num_tokens` is {opt_num_tokens}, more than `engine.max_num_tokens` "
        "{max_num_tokens}: TensorRT-LLM lowers it to that",
        fix="remove `opt_num_tokens`, or lower it",
        source=_COMMON,
        sure="1.2",
    ),
    Rule(
        name="block-size-no-power-of-two",
        effect="refused",
        when=f"kv_cache_type == 'paged' and tokens_per_block not in {BLOCK_SIZES}",
        keys=("engine.tokens_per_block",),
        says="`engine.tokens_per_block` is {tokens_per_block}, but a page of the KV cache holds "
        "a power of two of tokens",
        fix="set it to 32, 64 or 128",
        source="TensorRT-LLM `docs/source/legacy/advanced/kv-cache-reuse.md`",
        sure="1.3rc3",
    ),
    Rule(
        name="block-size-without-xqa",
        effect="ignored",
        when=f"kv_cache_type == 'paged' and tokens_per_block in {BLOCK_SIZES}"
        f" and tokens_per_block not in {XQA_BLOCK_SIZES}",
        keys=("engine.tokens_per_block",),
        says="`engine.tokens_per_block` is {tokens_per_block}: the faster (XQA) kernels of the "
        "generation phase are there for 32, 64 and 128 only",
        fix="set it to 32, 64 or 128",
        source="TensorRT-LLM `decoderXQAImplPrecompiled.cpp`",
        sure="1.3rc3",
    ),
    Rule(
        name="beam-width-over-limit",
        effect="refused",
        when=f"max_beam_width > {MAX_BEAM_WIDTH}",
        keys=("engine.max_beam_width",),
        says="`engine.max_beam_width` is {max_beam_width}, but beam search is made for "
        f"{MAX_BEAM_WIDTH} beams at most",
        fix=f"set it to {MAX_BEAM_WIDTH} or less",
        source="TensorRT-LLM `beamSearchKernels.h`",
        sure="1.x",
    ),
    Rule(
        name="sequence-over-positions",
        effect="refused",
        when="max_positions != None and max_seq_len > max_positions and rope_type != 'dynamic'"
        " and model.position_embedding_type not in ('relative', 'alibi', 'alibi_with_scale')",
        keys=("engine.max_seq_len",),
        says="`engine.max_seq_len` is {max_seq_len}, but the positions of the model reach to "
        "{max_positions} (`max_position_embeddings` times the factor of its rope scaling): beyond, "
        "TensorRT-LLM only warns, and the text is wrong",
        fix="set `engine.max_seq_len: {max_positions}` or less",
        source="TensorRT-LLM `builder.py`, _init_max_seq_len",
        sure="1.2",
    ),
    Rule(
        name="dynamic-rope-over-positions",
        effect="refused",
        when="rope_type == 'dynamic' and max_seq_len > model.max_position_embeddings",
        keys=("engine.max_seq_len",),
        says="`engine.max_seq_len` is {max_seq_len}, but the model scales its rope dynamically: "
        "beyond its {model[max_position_embeddings]} positions the base grows with the text, so "
        "that new tokens are rotated otherwise than those in the KV cache",
        fix="set `engine.max_seq_len: {model[max_position_embeddings]}` or less",
        source="TensorRT-LLM `decoderMaskedMultiheadAttentionUtils.h`, update_rotary_base_n_scale",
        sure="1.x",
    ),
    Rule(
        name="cache-under-sequence",
        effect="unmet",
        when="kv_cache_tokens != None and kv_cache_type != 'disabled'"
        " and kv_cache_tokens < max_seq_len * max_beam_width",
        keys=("engine.kv_cache_tokens", "engine.max_seq_len", "engine.max_beam_width"),
        says="`engine.kv_cache_tokens` is {kv_cache_tokens}, too few for one sequence of "
        "`max_seq_len` {max_seq_len} in each of `max_beam_width` {max_beam_width}: with such a "
        "cache TensorRT-LLM warns and shortens sequences at run time",
        fix="raise `kv_cache_tokens`, or lower `max_seq_len`",
        source="TensorRT-LLM `trtGptModelInflightBatching.cpp`, "
        "clampWindowSizesToFitAtLeastOneSequence",
        sure="1.3rc3",
    ),
    Rule(
        name="cache-over-batch",
        effect="ignored",
        when="kv_cache_tokens != None"
        " and (kv_cache_type == 'disabled'"
        " or kv_cache_tokens > max_batch_size * max_beam_width * (max_seq_len + tokens_per_block))",
        keys=("engine.kv_cache_tokens",),
        says="`engine.kv_cache_tokens` is {kv_cache_tokens}, more than a whole batch fills",
        fix="remove `kv_cache_tokens`",
        source="this project's memory plan",
        sure="inferred",
    ),
    Rule(
        name="workers-over-ranks",
        effect="ignored",
        when="workers > world_size",
        keys=("engine.workers",),
        says="`engine.workers` is {workers}, but there are {world_size} ranks to build",
        fix="set it to {world_size} or less",
        source="TensorRT-LLM `commands/build.py`, parallel_build",
        sure="1.2",
    ),
)
