trtllm-build \
   --model_dir ./llama3-70b-hf \
   --output_dir ./engine \
   --max_batch_size 64 \
   --max_input_len 4096 --max_seq_len 8192 \
   --tokens_per_block 64 \              # tokens of a block
   --use_paged_context_fmha enable \    # as flash attention
   --kv_cache_quant_mode int8 \         # no such flag
   --tp_size 2 \                        # tensor parallel
   --max_num_tokens 8192
