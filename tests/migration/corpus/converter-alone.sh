python3 examples/models/core/llama/convert_checkpoint.py --model_dir meta-llama/Llama-3.1-8B-Instruct --output_dir /ckpt --dtype auto --cp_size 2 --workers 2
