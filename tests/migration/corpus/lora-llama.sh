BASE_MODEL_PATH=/workspace/llama-7b-hf
python3 convert_checkpoint.py --model_dir ${BASE_MODEL_PATH} \
                            --output_dir ./c-model/llama/fp16/1-gpu \
                            --dtype float16
trtllm-build --checkpoint_dir ./c-model/llama/fp16/1-gpu \
            --output_dir /engines/llama_7b_with_lora_qkv/fp16/1-gpu \
            --gemm_plugin float16 \
            --max_batch_size 8 \
            --max_seq_len 562 \
            --gpt_attention_plugin float16 \
            --kv_cache_type paged \
            --remove_input_padding enable \
            --use_paged_context_fmha enable \
            --lora_plugin float16 \
            --lora_target_modules attn_q attn_k attn_v \
            --max_lora_rank 8
python3 /tensorrtllm_backend/tensorrt_llm/examples/hf_lora_convert.py -i /workspace/loras/luotuo-lora-7b-0.1 -o /workspace/loras/luotuo-weights --storage-type float16
