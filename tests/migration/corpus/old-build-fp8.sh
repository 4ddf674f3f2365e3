cd /workspace/tensorrtllm_backend/tensorrt_llm/examples/llama
python3 build.py --model_dir /workspace/meta/hf-weights/7B-chat  \
    --dtype float16 \
    --use_gpt_attention_plugin float16  \
    --paged_kv_cache \
    --remove_input_padding \
    --use_gemm_plugin float16  \
    --output_dir "/workspace/trt-engines/llama_7b/fp8/1-gpu"  \
    --max_input_len 2048 --max_output_len 512 \
    --use_rmsnorm_plugin float16  \
    --enable_context_fmha \
    --use_inflight_batching \
    --enable_fp8 \
    --fp8_kv_cache
