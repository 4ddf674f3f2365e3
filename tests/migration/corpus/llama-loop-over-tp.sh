for tp in 1 2 4; do
  python3 convert_checkpoint.py --model_dir /models/Llama-2-13b-hf --output_dir /ckpt/tp${tp} --dtype float16 --tp_size $tp
  trtllm-build --checkpoint_dir /ckpt/tp${tp} --output_dir /engines/tp${tp} --gemm_plugin float16 --max_batch_size 32 --max_input_len 1024 --max_output_len 256
done
