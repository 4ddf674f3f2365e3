python3 convert_checkpoint.py --model_dir openai-community/gpt2-medium --gpt_variant gpt2 --dtype float16 --output_dir gpt2/trt_ckpt/fp16/1-gpu
trtllm-build --checkpoint_dir gpt2/trt_ckpt/fp16/1-gpu --gpt_attention_plugin float16 --remove_input_padding enable --paged_kv_cache enable --gemm_plugin float16 --output_dir engines/fp16/1-gpu
