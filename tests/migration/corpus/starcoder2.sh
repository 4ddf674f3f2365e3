python3 examples/gpt/convert_checkpoint.py --model_dir bigcode/starcoder2-3b --dtype float16 --output_dir starcoder2/ckpt --use_parallel_embedding --embedding_sharding_dim 0 --tp_size 2 --use_embedding_sharing
trtllm-build --checkpoint_dir starcoder2/ckpt --gemm_plugin float16 --output_dir starcoder2/engine --max_batch_size 8 --workers 2
