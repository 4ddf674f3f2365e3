"""What becomes of the flags of `run.py`: prompts and lengths for the smoke test, else run time.

Source: TensorRT-LLM 0.5 to 1.2, `examples/run.py`, `examples/utils.py`.
"""

from __future__ import annotations

from pipeline.migration.rows import Row, same_answer, table

_GREEDY = "the smoke test is greedy; `smoke.temperature`, `top_p` and `seed` say otherwise"

RUN = table(
    [
        Row(("engine_dir",), "one", "decided", "~engine_dir", "the engine is in the store"),
        Row(("input_text",), "several", "renamed", "~prompts", "`smoke.prompts`"),
        Row(("max_output_len",), "one", "renamed", "~max_new_tokens", "`smoke.max_new_tokens`"),
        *same_answer(
            "tokenizer_dir hf_model_dir model_dir vocab_file tokenizer_type",
            "one",
            "decided",
            "the tokenizer comes with the source",
        ),
        *same_answer("temperature top_k top_p random_seed", "one", "at run time", _GREEDY),
        *same_answer("num_beams", "one", "at run time", "the smoke test uses no beams"),
        *same_answer(
            "input_file multimodal_input_file max_input_length output_csv output_npy "
            "output_logits_npy log_level repetition_penalty presence_penalty frequency_penalty "
            "length_penalty end_id sink_token_length kv_cache_free_gpu_memory_fraction "
            "max_tokens_in_paged_kv_cache gpu_weights_percent multi_block_mode draft_engine_dir "
            "draft_target_model_config ngram_config medusa_choices eagle_choices lookahead_config "
            "lora_ckpt_source prompt_table_path prompt_tasks streaming_interval backend data_type",
            "one",
            "at run time",
            "it is no property of the engine",
        ),
        *same_answer(
            "stop_words bad_words max_attention_window_size lora_dir lora_task_uids",
            "several",
            "at run time",
            "it is no property of the engine",
        ),
        *same_answer(
            "streaming use_py_session debug_mode no_prompt_template no_add_special_tokens "
            "enable_context_fmha_fp32_acc cuda_graph_mode run_profiling output_generation_logits "
            "enable_chunked_context kv_cache_enable_block_reuse no_kv_cache_enable_block_reuse "
            "eagle_use_dynamic_tree return_all_generated_tokens",
            "nothing",
            "at run time",
            "it is no property of the engine",
        ),
    ]
)
