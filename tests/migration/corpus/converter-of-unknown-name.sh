TYPE=bfloat16
python3 ${CONVERTER} --model_dir ${HF_FOLDER} --output_dir ${CKPT_FOLDER} --dtype ${TYPE} --tp_size ${RANKS}
trtllm-build --checkpoint_dir ${CKPT_FOLDER} --gpt_attention_plugin auto --gemm_plugin auto \
    --output_dir ${ENGINE_FOLDER} --kv_cache_type paged --multiple_profiles enable \
    --max_input_len ${INPUT_LEN} --max_seq_len ${SEQ_LEN} --max_batch_size ${BATCH}
