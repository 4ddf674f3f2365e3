python3 ./convert_checkpoint.py --ckpt-type jax --model-dir ./gemma-jax --dtype bfloat16 --world-size 1 --output-model-dir ./ckpt
trtllm-build --checkpoint_dir ./ckpt --gemm_plugin auto --max_batch_size 8 --output_dir ./engine
