python3 convert_checkpoint.py --model_dir ./Meta-Llama-3-8B --output_dir ./ckpt --dtype bfloat16
trtllm-build --checkpoint_dir ./ckpt --output_dir ./engine --max_input_len 4096
