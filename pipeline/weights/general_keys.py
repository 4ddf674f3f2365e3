"""Config rules that families share: keys of every transformers config, parts of every target.

Read: transformers 4.57 and 5.23 (`configuration_utils.py`, `generation/configuration_utils.py`);
TensorRT-LLM 1.x (`layers/moe.py`, MoeConfig; `models/modeling_utils.py`, QuantConfig). Of the
target's objects only keys are written that every 1.x release knows: a key that it does not know is
an error there.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.artifact import Json
from pipeline.weights.config_rules import ConfigRule, Copy, Given, Inert, Neutral, Require

NO_QUANTIZATION: Mapping[str, Json] = MappingProxyType(
    {
        "quant_algo": None,
        "kv_cache_quant_algo": None,
        "group_size": 128,
        "smoothquant_val": 0.5,
        "clamp_val": None,
        "has_zero_point": False,
        "pre_quant_scale": False,
        "exclude_modules": None,
    }
)
"""The `quantization` object of a checkpoint that is not quantized."""

SIZES: tuple[ConfigRule, ...] = (
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count"),
    Copy("num_hidden_layers", "count"),
    Copy("num_attention_heads", "count"),
    Copy("intermediate_size", "count"),
)
"""The sizes that most decoders spell alike."""

LAYER_TYPES: tuple[ConfigRule, ...] = (
    Copy("layer_types", "list", default=[], written=False),
    Require(
        "len(layer_types) in (0, num_hidden_layers)"
        " and all_among(layer_types, ('full_attention', 'sliding_attention'))",
        "`layer_types` does not have `full_attention` or `sliding_attention` for every layer",
    ),
)
"""Which layers have a sliding window, in configs of transformers 4.53 and later; else empty."""

GENERAL_KEYS: tuple[ConfigRule, ...] = (
    Given(("architectures", "torch_dtype", "dtype")),
    Neutral(
        "quantization_config",
        (None,),
        "quantized sources are not converted",
        hint="use the checkpoint as it was before quantization",
    ),
    Neutral(
        "auto_map",
        (None, {}),
        "it points to Python code of the source, which is never executed and may compute "
        "something else than the architecture's own class",
        hint="use a version of the model that transformers supports natively, or a copy whose "
        "`config.json` has no `auto_map` if you know that the code computes the same; or read the "
        "code, name its files in `source.remote_code`, and set `verify.logits: true`, which "
        "compares with it",
        fallback=True,
    ),
    Neutral("add_cross_attention", (None, False), "decoders attend to themselves only"),
    Neutral("cross_attention_hidden_size", (None,), "decoders attend to themselves only"),
    Neutral("is_encoder_decoder", (None, False), "decoders have no encoder"),
    Neutral("tie_encoder_decoder", (None, False), "decoders have no encoder"),
    Neutral("pruned_heads", (None, {}), "all heads are there"),
    Inert(
        (
            *("pretraining_tp", "initializer_range", "attention_dropout"),
            *("hidden_dropout", "hidden_dropout_prob"),
        ),
        "how it was trained",
    ),
    Inert(
        (
            *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id"),
            *("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"),
            *("bad_words_ids", "begin_suppress_tokens", "suppress_tokens", "do_sample"),
            *("diversity_penalty", "early_stopping", "encoder_no_repeat_ngram_size"),
            *("exponential_decay_length_penalty", "length_penalty", "max_length", "min_length"),
            *("max_new_tokens", "no_repeat_ngram_size", "num_beam_groups", "num_beams"),
            *("num_return_sequences", "remove_invalid_values", "repetition_penalty"),
            *("temperature", "top_k", "top_p", "typical_p", "use_cache"),
        ),
        "how text is generated; the engine's caller decides",
    ),
    Inert(
        (
            *("output_attentions", "output_hidden_states", "output_scores", "return_dict"),
            *("return_dict_in_generate", "chunk_size_feed_forward", "torchscript", "use_bfloat16"),
            *("attn_implementation", "_attn_implementation", "_attn_implementation_autoset"),
            *("_flash_attn_2_enabled", "tf_legacy_loss", "is_decoder", "max_sequence_length"),
        ),
        "how transformers runs it",
    ),
    Inert(
        (
            *("_name_or_path", "name_or_path", "_commit_hash", "transformers_version"),
            *("transformers.js_config", "is_llama_config", "unsloth_fixed", "unsloth_version"),
        ),
        "where it comes from",
    ),
    Inert(
        (
            *("finetuning_task", "id2label", "label2id", "num_labels", "problem_type", "prefix"),
            *("task_specific_params", "tokenizer_class"),
        ),
        "other tasks than generating text",
    ),
)
"""The keys that transformers may write for any decoder, and that change nothing here."""

REMOTE_CODE_KEYS: tuple[ConfigRule, ...] = (
    *(r for r in GENERAL_KEYS if not isinstance(r, Neutral) or r.source != "auto_map"),
    Inert(("auto_map",), "the code that the family publishes was read, it is not executed"),
)
"""GENERAL_KEYS for a family that is published with Python code of its own."""
