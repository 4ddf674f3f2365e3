python3 convert_checkpoint.py --model_dir /models/Mixtral-8x7B-Instruct-v0.1 --output_dir /ckpt/mixtral --dtype float16 --tp_size 2 --moe_num_experts 8 --moe_top_k 2 --moe_tp_mode 1 --load_by_shard
trtllm-build --checkpoint_dir /ckpt/mixtral --output_dir /engines/mixtral --gemm_plugin float16 --max_batch_size 16 --max_input_len 1024 --max_output_len 1024
