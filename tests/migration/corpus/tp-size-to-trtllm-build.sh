trtllm-build \
--checkpoint_dir ${CKPT_PATH} \
--max_num_tokens 32768 \
--tp_size ${TP_SIZE} \
--pp_size ${PP_SIZE} \
--gpus_per_node 8 \
--remove_input_padding enable \
--gemm_plugin float16 \
--gpt_attention_plugin float16 \
--paged_kv_cache enable \
--context_fmha enable \
--output_dir ${ENGINE_DIR} \
--max_batch_size 8 \
--use_custom_all_reduce disable \
2>&1 | tee $OUTPUT_LOG

mpirun --allow-run-as-root -np $TP_SIZE python3 examples/run.py --tokenizer_dir $MODEL_PATH --engine_dir $ENGINE_DIR --max_output_len 128
