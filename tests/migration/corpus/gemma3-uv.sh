uv run convert_checkpoint.py --ckpt-type hf --model-dir checkpoints/google/gemma-3-1b-it --dtype bfloat16 --world-size 1 --output-model-dir checkpoints/gemma3_converted
uv run trtllm-build --checkpoint_dir checkpoints/gemma3_converted --gemm_plugin auto --max_batch_size 1 --max_input_len 1024 --max_seq_len 2048 --output_dir checkpoints/trt_out
