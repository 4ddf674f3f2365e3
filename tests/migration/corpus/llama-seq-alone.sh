python3 convert_checkpoint.py --model_dir ./TinyLlama --output_dir ./ckpt --dtype float16
trtllm-build --checkpoint_dir ./ckpt --output_dir ./engine --max_batch_size 1 --max_seq_len 512 --max_num_tokens 512
