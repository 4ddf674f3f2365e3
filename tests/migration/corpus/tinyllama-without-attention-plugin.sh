python convert_checkpoint.py --model_dir TinyLlama/TinyLlama-1.1B-Chat-v1.0 --output_dir ckpt --dtype float16
trtllm-build \
  --checkpoint_dir ckpt \
  --output_dir     engine \
  --weight_streaming \
  --max_batch_size 1 --max_seq_len 512 --max_num_tokens 512 \
  --gpt_attention_plugin disable --fast_build
trtllm-serve serve engine --tokenizer TinyLlama/TinyLlama-1.1B-Chat-v1.0 --host 0.0.0.0 --port 8000
