root@3fd2a9:/app/tensorrt_llm/examples/llama# python3 convert_checkpoint.py --model_dir ./Meta-Llama-3-8B-Instruct --output_dir ./tllm_checkpoint_1gpu_bf16 --dtype bfloat16
root@3fd2a9:/app/tensorrt_llm/examples/llama# trtllm-build --checkpoint_dir ./tllm_checkpoint_1gpu_bf16 --output_dir ./tmp/llama/8B/trt_engines/bf16/1-gpu --gpt_attention_plugin bfloat16 --gemm_plugin bfloat16
