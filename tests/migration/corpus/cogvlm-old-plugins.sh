python ../llama/convert_checkpoint.py --model_dir tmp/hf_models/cogvlm-chat-hf --output_dir ./tllm_checkpoint_1gpu_bf16 --dtype bfloat16 --use_prompt_tuning
trtllm-build --checkpoint_dir ./tllm_checkpoint_1gpu_bf16  \
    --output_dir ./tmp/cogvlm/trt_engines/bf16/1-gpu \
    --gemm_plugin bfloat16 \
    --gpt_attention_plugin bfloat16 \
    --context_fmha_fp32_acc enable \
    --remove_input_padding disable \
    --max_batch_size 48 \
    --max_input_len 2048 \
    --max_seq_len 3076 \
    --paged_kv_cache disable \
    --use_custom_all_reduce disable \
    --enable_xqa disable \
    --bert_attention_plugin disable \
    --moe_plugin disable \
    --max_multimodal_len 61440 # 48 (max_batch_size) * 1280 (max_num_visual_features)
