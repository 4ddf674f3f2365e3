python /app/tensorrt_llm/examples/llama/convert_checkpoint.py --model_dir /models/llama-2-7B_hf/ \
    --output_dir /models/tllm_checkpoint_1gpu_bf16 --dtype bfloat16
trtllm-build --checkpoint_dir /models/tllm_checkpoint_1gpu_bf16 \
    --output_dir /models/trt_engines/bf16/1-gpu --gpt_attention_plugin bfloat16 --gemm_plugin bfloat16
python3 tools/fill_template.py -i all_models/inflight_batcher_llm/tensorrt_llm/config.pbtxt triton_max_batch_size:4
python3 scripts/launch_triton_server.py --world_size 1
