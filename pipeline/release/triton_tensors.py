"""Tensors of the models in a Triton model repository `inflight_batcher_llm`: data only.

Names, types and dims are those that the backend reads and writes (TensorRT-LLM at 1.3.0rc3,
`triton_backend/all_models/inflight_batcher_llm/*/config.pbtxt`, `inflight_batcher_llm/src/utils.h`
below `triton_backend`).
`LOGITS` and `MODEL` stand for a type that the engine decides.
"""

from __future__ import annotations

from dataclasses import dataclass

LOGITS, MODEL = "LOGITS", "MODEL"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output; `dims` without the batch.

    `scalar`: the backend sees `[batch]`, a request sends `[batch, 1]`. `ragged`: the requests of a
    batch may differ in it. `needs`: only where the engine has this (`lora`, `prompt_table`).
    """

    name: str
    dtype: str
    dims: tuple[int, ...] = (1,)
    optional: bool = False
    scalar: bool = False
    ragged: bool = False
    needs: str | None = None


def _scalars(dtype: str, *names: str, optional: bool = True) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, dtype, (1,), optional, scalar=True) for name in names)


def _ragged(dtype: str, dims: tuple[int, ...], *names: str) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, dtype, dims, optional=True, ragged=True) for name in names)


def _optional(dtype: str, *names: str, needs: str | None = None) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, dtype, optional=True, needs=needs) for name in names)


LLM_INPUTS = (
    *_ragged("INT32", (-1,), "input_ids"),
    *_ragged("FP16", (-1, -1), "encoder_input_features"),
    *_scalars("INT32", "encoder_output_lengths"),
    *_scalars("INT32", "input_lengths", "request_output_len", optional=False),
    *_scalars("INT32", "num_return_sequences"),
    *_ragged("INT32", (-1,), "draft_input_ids", "decoder_input_ids"),
    *_scalars("INT32", "decoder_input_lengths"),
    *_ragged(LOGITS, (-1, -1), "draft_logits"),
    *_scalars("FP32", "draft_acceptance_threshold"),
    *_scalars("INT32", "end_id", "pad_id"),
    *_ragged("INT32", (2, -1), "stop_words_list", "bad_words_list"),
    *_ragged("FP32", (-1,), "embedding_bias"),
    *_scalars("INT32", "beam_width"),
    *_scalars("FP32", "temperature"),
    *_scalars("INT32", "runtime_top_k"),
    *_scalars("FP32", "runtime_top_p", "runtime_top_p_min", "runtime_top_p_decay"),
    *_scalars("INT32", "runtime_top_p_reset_ids"),
    *_scalars("FP32", "len_penalty"),
    *_scalars("BOOL", "early_stopping"),
    *_scalars("FP32", "repetition_penalty"),
    *_scalars("INT32", "min_tokens"),
    *_scalars("FP32", "beam_search_diversity_rate", "presence_penalty", "frequency_penalty"),
    *_scalars("UINT64", "seed"),
    *_scalars("BOOL", "return_log_probs", "return_context_logits", "return_generation_logits"),
    *_scalars("BOOL", "return_perf_metrics", "return_num_input_tokens"),
    *_scalars("BOOL", "return_num_output_tokens", "exclude_input_in_output", "stop", "streaming"),
    *_ragged(MODEL, (-1, -1), "prompt_embedding_table"),
    *_ragged("UINT64", (-1,), "prompt_table_extra_ids"),
    *_scalars("INT32", "prompt_vocab_size"),
    *_ragged("BOOL", (-1, -1), "cross_attention_mask"),
    Tensor("mrope_rotary_cos_sin", "FP32", (-1,), optional=True),
    Tensor("mrope_position_deltas", "INT64", (1,), optional=True),
    *_scalars("UINT64", "lora_task_id"),
    *_ragged("FP16", (-1, -1), "lora_weights"),
    *_ragged("INT32", (-1, 3), "lora_config"),
    *_ragged("UINT8", (-1,), "context_phase_params"),
    *_ragged("BOOL", (1,), "skip_cross_attn_blocks"),
    *_ragged("INT32", (-1,), "retention_token_range_starts", "retention_token_range_ends"),
    *_ragged("INT32", (-1,), "retention_token_range_priorities"),
    *_ragged("INT32", (-1,), "retention_token_range_durations_ms"),
    *_ragged("INT32", (1,), "retention_decode_priority", "retention_decode_duration_ms"),
    *_ragged("STRING", (1,), "guided_decoding_guide_type", "guided_decoding_guide"),
    *_ragged("INT32", (1,), "lookahead_window_size", "lookahead_ngram_size"),
    *_ragged("INT32", (1,), "lookahead_verification_set_size"),
)
"""Every input of the backend: those of a decoder, and those that other engines read."""

SHARED_OUTPUTS = (
    Tensor("cum_log_probs", "FP32", (-1,)),
    Tensor("output_log_probs", "FP32", (-1, -1)),
    Tensor("context_logits", LOGITS, (-1, -1)),
    Tensor("generation_logits", LOGITS, (-1, -1, -1)),
    Tensor("batch_index", "INT32"),
    Tensor("sequence_index", "INT32"),
    Tensor("kv_cache_alloc_new_blocks", "INT32"),
    Tensor("kv_cache_reused_blocks", "INT32"),
    Tensor("kv_cache_alloc_total_blocks", "INT32"),
    Tensor("arrival_time_ns", "INT64"),
    Tensor("first_scheduled_time_ns", "INT64"),
    Tensor("first_token_time_ns", "INT64"),
    Tensor("last_token_time_ns", "INT64"),
    Tensor("acceptance_rate", "FP32"),
    Tensor("total_accepted_draft_tokens", "INT32"),
    Tensor("total_draft_tokens", "INT32"),
    Tensor("num_input_tokens", "INT32"),
    Tensor("num_output_tokens", "INT32"),
)
"""Outputs of the engine that the ensemble passes on under the same names."""

LLM_OUTPUTS = (
    Tensor("output_ids", "INT32", (-1, -1)),
    Tensor("sequence_length", "INT32", (-1,)),
    *SHARED_OUTPUTS,
    Tensor("context_phase_params", "UINT8", (-1,)),
)

PREPROCESSING_INPUTS = (
    Tensor("QUERY", "STRING"),
    Tensor("REQUEST_OUTPUT_LEN", "INT32"),
    Tensor("BAD_WORDS_DICT", "STRING", (-1,), optional=True),
    Tensor("STOP_WORDS_DICT", "STRING", (-1,), optional=True),
    Tensor("EMBEDDING_BIAS_WORDS", "STRING", (-1,), optional=True),
    Tensor("EMBEDDING_BIAS_WEIGHTS", "FP32", (-1,), optional=True),
    *_optional("INT32", "END_ID", "PAD_ID"),
    *_optional("UINT64", "PROMPT_TABLE_EXTRA_ID", needs="prompt_table"),
)
PREPROCESSING_OUTPUTS = (
    Tensor("INPUT_ID", "INT32", (-1,)),
    Tensor("REQUEST_INPUT_LEN", "INT32"),
    Tensor("BAD_WORDS_IDS", "INT32", (2, -1)),
    Tensor("STOP_WORDS_IDS", "INT32", (2, -1)),
    Tensor("EMBEDDING_BIAS", "FP32", (-1,)),
    Tensor("REQUEST_OUTPUT_LEN", "INT32", (-1,)),
    Tensor("OUT_END_ID", "INT32"),
    Tensor("OUT_PAD_ID", "INT32"),
    Tensor("OUT_PROMPT_TABLE_EXTRA_IDS", "UINT64", (-1,), needs="prompt_table"),
)
POSTPROCESSING_INPUTS = (
    Tensor("TOKENS_BATCH", "INT32", (-1, -1)),
    Tensor("SEQUENCE_LENGTH", "INT32", (-1,)),
)
POSTPROCESSING_OUTPUTS = (Tensor("OUTPUT", "STRING", (-1,)),)

ENSEMBLE_INPUTS = (
    Tensor("text_input", "STRING"),
    Tensor("max_tokens", "INT32"),
    *_optional("INT32", "num_return_sequences"),
    Tensor("bad_words", "STRING", (-1,), optional=True),
    Tensor("stop_words", "STRING", (-1,), optional=True),
    *_optional("BOOL", "exclude_input_in_output"),
    *_optional("INT32", "end_id", "pad_id", "top_k"),
    *_optional("FP32", "top_p", "temperature", "length_penalty", "repetition_penalty"),
    *_optional("INT32", "min_tokens"),
    *_optional("FP32", "presence_penalty", "frequency_penalty"),
    *_optional("UINT64", "seed"),
    *_optional("BOOL", "return_log_probs", "return_context_logits", "return_generation_logits"),
    *_optional("BOOL", "return_perf_metrics", "return_num_input_tokens"),
    *_optional("BOOL", "return_num_output_tokens"),
    *_optional("INT32", "beam_width"),
    *_optional("BOOL", "stream"),
    Tensor("prompt_embedding_table", MODEL, (-1, -1), optional=True, needs="prompt_table"),
    *_optional("UINT64", "prompt_table_extra_id", needs="prompt_table"),
    *_optional("INT32", "prompt_vocab_size", needs="prompt_table"),
    Tensor("embedding_bias_words", "STRING", (-1,), optional=True),
    Tensor("embedding_bias_weights", "FP32", (-1,), optional=True),
    *_optional("UINT64", "lora_task_id", needs="lora"),
    Tensor("lora_weights", "FP16", (-1, -1), optional=True, ragged=True, needs="lora"),
    Tensor("lora_config", "INT32", (-1, 3), optional=True, ragged=True, needs="lora"),
)
"""What a client sends, by the names of the published clients; inputs of encoders, of images and of
guided decoding are left out: this project builds no such engines."""

ENSEMBLE_OUTPUTS = (Tensor("text_output", "STRING", (-1,)), *SHARED_OUTPUTS)

PREPROCESSING_STEP = (
    {
        "QUERY": "text_input",
        "REQUEST_OUTPUT_LEN": "max_tokens",
        "BAD_WORDS_DICT": "bad_words",
        "STOP_WORDS_DICT": "stop_words",
        "EMBEDDING_BIAS_WORDS": "embedding_bias_words",
        "EMBEDDING_BIAS_WEIGHTS": "embedding_bias_weights",
        "END_ID": "end_id",
        "PAD_ID": "pad_id",
        "PROMPT_TABLE_EXTRA_ID": "prompt_table_extra_id",
    },
    {
        "INPUT_ID": "_INPUT_ID",
        "REQUEST_INPUT_LEN": "_REQUEST_INPUT_LEN",
        "BAD_WORDS_IDS": "_BAD_WORDS_IDS",
        "STOP_WORDS_IDS": "_STOP_WORDS_IDS",
        "EMBEDDING_BIAS": "_EMBEDDING_BIAS",
        "REQUEST_OUTPUT_LEN": "_REQUEST_OUTPUT_LEN",
        "OUT_END_ID": "_END_ID",
        "OUT_PAD_ID": "_PAD_ID",
        "OUT_PROMPT_TABLE_EXTRA_IDS": "_PROMPT_TABLE_EXTRA_IDS",
    },
)
"""Tensors of the model -> of the ensemble: inputs, outputs."""

SAME_NAMES = (
    "num_return_sequences",
    "exclude_input_in_output",
    "temperature",
    "repetition_penalty",
    "min_tokens",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "return_log_probs",
    "return_context_logits",
    "return_generation_logits",
    "return_perf_metrics",
    "return_num_input_tokens",
    "return_num_output_tokens",
    "beam_width",
    "prompt_embedding_table",
    "prompt_vocab_size",
    "lora_task_id",
    "lora_weights",
    "lora_config",
)
LLM_STEP = (
    {
        "input_ids": "_INPUT_ID",
        "input_lengths": "_REQUEST_INPUT_LEN",
        "request_output_len": "_REQUEST_OUTPUT_LEN",
        "end_id": "_END_ID",
        "pad_id": "_PAD_ID",
        "embedding_bias": "_EMBEDDING_BIAS",
        "stop_words_list": "_STOP_WORDS_IDS",
        "bad_words_list": "_BAD_WORDS_IDS",
        "prompt_table_extra_ids": "_PROMPT_TABLE_EXTRA_IDS",
        "runtime_top_k": "top_k",
        "runtime_top_p": "top_p",
        "len_penalty": "length_penalty",
        "streaming": "stream",
        **{name: name for name in SAME_NAMES},
    },
    {
        "output_ids": "_TOKENS_BATCH",
        "sequence_length": "_SEQUENCE_LENGTH",
        **{tensor.name: tensor.name for tensor in SHARED_OUTPUTS},
    },
)
POSTPROCESSING_STEP = (
    {"TOKENS_BATCH": "_TOKENS_BATCH", "SEQUENCE_LENGTH": "_SEQUENCE_LENGTH"},
    {"OUTPUT": "text_output"},
)
